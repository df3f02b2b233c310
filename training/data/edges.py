"""The effective blur of a slice, from its own high-contrast edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_EDGE_HU = 350.0


def edge_width(hu: NDArray[np.float32]) -> float:
    """Gaussian width (px) of the steepest high-contrast edges: the effective blur.

    An edge of height c blurred by a Gaussian of width s has gradient c / (sqrt(2 pi) s). The
    steepest twentieth counts: edges that lie slanted within a thick slice look wider than the
    kernel made them, and this share is what stays the same from slice to slice of one scan.
    """
    gradient = ndimage.gaussian_gradient_magnitude(hu, 0.5)
    peaks = gradient == ndimage.maximum_filter(gradient, 5)
    height = ndimage.maximum_filter(hu, 13) - ndimage.minimum_filter(hu, 13)
    edges = peaks & (height > _EDGE_HU) & (gradient > 0.03 * height)
    if np.count_nonzero(edges) < 30:
        return 3.0
    widths = height[edges] / (np.sqrt(2.0 * np.pi) * gradient[edges])
    narrow = float(np.percentile(widths, 5))
    return float(np.sqrt(max(narrow**2 - 0.25, 0.16)))
