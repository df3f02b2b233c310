"""CT-IQA data, the small captioner and its fine-tuning."""
