"""Bundles: the folder the runtime loads, what its manifest says, and how it is opened safely."""
