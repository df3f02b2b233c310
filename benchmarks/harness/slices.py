"""The committed example slices: what every benchmark feeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import ImageFileError
from engine.dicom.series import SliceSource

EXAMPLES = Path(__file__).parents[2] / "examples"


def example_slices() -> list[NDArray[np.float32]]:
    """(512, 512) HU arrays of the example DICOM files, in the order of their names.

    Raises:
        ImageFileError: there are none; the benchmarks run from a checkout.
    """
    source = SliceSource(sorted(EXAMPLES.glob("*.dcm")))
    found = [item.hu for item in source if not isinstance(item, ImageFileError)]
    if not found:
        raise ImageFileError(f"no example slices in {EXAMPLES}; run from a checkout")
    return found
