"""How many slices a second, at which latency: `python -m benchmarks.throughput`."""
