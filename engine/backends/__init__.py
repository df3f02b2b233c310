"""What executes the graphs of a bundle: one module per foreign runtime, behind `base`."""
