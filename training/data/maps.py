"""Where on a slice the damage is: the measurements again, but for every cell of 32 x 32 pixels.

One number a slice says little about where a streak was. The maps teach an encoder to see it; no
reader looks at them, and no runtime needs them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .degrade import Layers

CELL_PX = 32
MAPS = ("streak_hu", "noise_hu", "coarse_noise_hu", "tissue")
"""Root mean squares of streaks and of the added noise, fine and coarse; share of tissue looked at.

Streaks count where readers look: their mean square over the cells is that of the slice.
"""


def cell_maps(layers: Layers) -> NDArray[np.float16]:
    """The maps of one degraded slice: (512, 512) HU -> (len(MAPS), 16, 16), HU and a share."""
    added = layers.without_artifacts - layers.noise_free
    found = [
        np.sqrt(_cells(layers.streaks**2)),
        np.sqrt(_cells(added**2)),
        np.sqrt(_cells(ndimage.gaussian_filter(added, 1.5) ** 2)),
        _cells(layers.regions.inner.astype(np.float32)),
    ]
    return np.stack(found).astype(np.float16)


def _cells(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of every cell."""
    rows, columns = values.shape[0] // CELL_PX, values.shape[1] // CELL_PX
    split = values.reshape(rows, CELL_PX, columns, CELL_PX)
    return np.asarray(split.mean((1, 3)), np.float32)
