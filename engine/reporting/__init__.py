"""Reports: what the caption means for whoever reads the slice or runs the scanner."""
