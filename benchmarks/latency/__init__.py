"""How long one slice takes, by stage, scenario and batch size: `python -m benchmarks.latency`."""
