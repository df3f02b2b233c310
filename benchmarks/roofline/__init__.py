"""`python -m benchmarks.roofline`: what the machine allows, and what each stage reaches of it."""
