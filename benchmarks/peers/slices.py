"""The slices that all contestants caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.dicom.series import SliceSource
from engine.errors import ImageFileError, IqaError

EXAMPLES = Path(__file__).parents[2] / "examples"


def example_slices() -> list[NDArray[np.float32]]:
    """The example slices of a checkout, in HU.

    Raises:
        IqaError: there are none.
    """
    items = list(SliceSource([EXAMPLES]))
    found = [item.hu for item in items if not isinstance(item, ImageFileError)]
    if not found:
        raise IqaError(f"no slices in {EXAMPLES}; run from a checkout")
    return found
