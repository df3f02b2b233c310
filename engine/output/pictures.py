"""Pictures of slices for pages."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..prepare import Window, to_window

THUMBNAIL = 320
SOFT_TISSUE = Window(low=-160.0, high=240.0)


def thumbnail(hu: NDArray[np.float32]) -> Image.Image:
    """A slice in the soft-tissue window, 8-bit grey, at most `THUMBNAIL` pixels a side."""
    grey = ((to_window(hu, SOFT_TISSUE) + 1.0) * 127.5).astype(np.uint8)
    picture = Image.fromarray(grey)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture
