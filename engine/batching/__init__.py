"""Slices of many callers -> batches: `policy` decides when, `batcher` carries them through."""
