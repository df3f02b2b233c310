"""Where a slice is measured: even soft tissue, and what of it is far from edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

PATCH = 32
"""Side of the squares that noise power is measured on, pixels."""
EDGE_MARGIN_PX = 8
"""Streaks are measured this far from edges: motion moves them by nearly as much."""
SLOW_PX = 49
"""Side of the squares whose mean is shading, not streaks."""
ENOUGH_PX = 200
"""Fewer pixels than this are no region to measure on."""


@dataclass(frozen=True, slots=True)
class Regions:
    """Where a slice is measured, by its original: damage moves no region. All (512, 512).

    Attributes:
        tissue: even soft tissue.
        inner: that of it which is far from edges, where readers look for streaks and lesions; all
            of it, or the body, where that is too little.
    """

    tissue: Mask
    inner: Mask

    @classmethod
    def of(cls, hu: Array, body: Mask) -> Regions:
        """The regions of an original, (512, 512) HU, whose patient is at `body`."""
        tissue = soft_tissue(hu)
        inner = far_from_edges(tissue)
        enough = (mask for mask in (inner, tissue) if np.count_nonzero(mask) > ENOUGH_PX)
        return cls(tissue, next(enough, body))


def without_slow_part(values: Array, where: Mask) -> Array:
    """Values within a region less their slow change there, and zero outside of it.

    The slow change is a moving mean over the region alone: a displaced edge outside of it,
    hundreds of HU high, casts no halo into it.
    """
    weight = where.astype(np.float32)
    share = np.maximum(ndimage.uniform_filter(weight, SLOW_PX), 1e-6)
    slow = ndimage.uniform_filter(values * weight, SLOW_PX) / share
    return np.asarray(weight * (values - slow), np.float32)


def soft_tissue(hu: Array) -> Mask:
    """Even soft tissue of a slice: away from air, bone and strong edges."""
    smooth = ndimage.gaussian_filter(hu, 2.5)
    mask = (smooth > -150.0) & (smooth < 200.0)
    edges = ndimage.gaussian_gradient_magnitude(hu, 2.5)
    mask &= edges < 12.0
    return ndimage.binary_erosion(mask, iterations=2)


def far_from_edges(tissue: Mask) -> Mask:
    """What of even tissue lies more than `EDGE_MARGIN_PX` inside it."""
    return np.asarray(ndimage.distance_transform_edt(tissue) > EDGE_MARGIN_PX)
