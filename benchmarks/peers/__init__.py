"""`python -m benchmarks.peers`: the engine beside other ways to run the same weights."""
