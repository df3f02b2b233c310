"""A fine-tuned captioner becomes a bundle: graphs, engines, manifest, proof of parity.

`export.export(checkpoint, out, slices, …)` is the whole of it; see `export.write_bundle`.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Options", "export"]


def __getattr__(name: str) -> Any:
    """Load torch only when it is used: `python -m export --help` should answer at once."""
    if name in __all__:
        from . import write_bundle

        return getattr(write_bundle, name)
    raise AttributeError(f"module 'export' has no attribute {name!r}")
