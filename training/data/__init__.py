"""The CT-IQA data set: scans, physical degradations, measurements, simulated readers, formats."""
