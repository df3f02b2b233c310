"""What all benchmarks share: statistics, the machine's description, output."""
