"""Which bundle ran, and a refusal of one in another precision than asked for."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.bundle.manifest import MANIFEST_NAME
from engine.bundle.store import DEFAULT_BUNDLE, Bundle, read_manifest
from engine.errors import BundleError

from .schema import BundleFacts


def check_precision(bundle: str | None, precision: str | None) -> None:
    """Refuse a bundle of another precision before anything is loaded.

    Raises:
        BundleError: it is of another precision, or no bundle.
    """
    found = read_manifest(Path(bundle) if bundle else DEFAULT_BUNDLE).precision
    if precision not in (None, found):
        raise BundleError(
            f"the bundle is {found}, not {precision}; make one with "
            f"`python -m export CHECKPOINT --out BUNDLE --precision {precision}` and name it with "
            "--bundle"
        )


def facts(bundle: Bundle) -> BundleFacts:
    """Name, precision and hash of an opened bundle."""
    manifest = bundle.manifest
    return BundleFacts(
        name=manifest.name,
        version=manifest.version,
        precision=manifest.precision,
        family=manifest.family,
        sha256=hashlib.sha256((bundle.folder / MANIFEST_NAME).read_bytes()).hexdigest(),
    )
