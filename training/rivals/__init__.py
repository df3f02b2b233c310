"""What the captioner is measured against: each rival turns slices into the same five scores."""
