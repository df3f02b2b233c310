"""A fine-tuned captioner becomes a bundle: ONNX graphs, manifest, proof of parity."""
