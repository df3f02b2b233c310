"""HU array -> pixels for the encoder: checks, padding, resampling, windows, normalisation.

One piece of code for training and for the runtime, so that both see the same pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .errors import NoAnatomyError, NonFiniteError, NotHounsfieldError, ShapeError

AIR_HU = -1024.0
MIN_SIDE, MAX_SIDE = 64, 4096
_SOFT_TISSUE_HU = (-200.0, 300.0)
_MIN_SOFT_TISSUE = 0.003
_DENSE_HU, _MAX_DENSE = 600.0, 0.4
_FAT_HU = -50.0
_MAX_ABS_HU = 32768.0
_SQUARE = 0.01
"""Relative difference of spacings up to which pixels count as square."""

Resampling = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_FILTERS: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A display window in HU, and how its values are normalised.

    HU from `low` to `high` become 0 … 1, clipped; then `mean` is subtracted and the rest divided by
    `std`, as Hugging Face's image processors do. The defaults give -1 … 1.
    """

    low: float
    high: float
    mean: float = 0.5
    std: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """How a slice becomes pixels: square side, one channel per window, and the interpolation."""

    size: int
    windows: tuple[Window, ...]
    resampling: Resampling = "bicubic"


def check_slice(hu: NDArray[np.generic]) -> NDArray[np.float32]:
    """One slice as float32 HU, or the typed error that names what is wrong with it.

    Args:
        hu: (H, W), integer or float, Hounsfield units.

    Raises:
        ShapeError, NonFiniteError, NotHounsfieldError, NoAnatomyError.
    """
    if hu.ndim != 2:
        raise ShapeError(f"a slice is (H, W); got shape {hu.shape}")
    if min(hu.shape) < MIN_SIDE or max(hu.shape) > MAX_SIDE:
        raise ShapeError(
            f"a slice has {MIN_SIDE} to {MAX_SIDE} pixels a side; got {hu.shape[0]} x {hu.shape[1]}"
        )
    if hu.dtype.kind not in "iuf":
        raise NotHounsfieldError(
            f"a slice holds integers or floats in HU; got dtype {hu.dtype}. Convert it first"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused
        values = hu.astype(np.float32, copy=False)
    low, high = float(values.min()), float(values.max())  # NaN and infinity show up in both
    if not (math.isfinite(low) and math.isfinite(high)):
        count = int(values.size - np.isfinite(values).sum())
        raise NonFiniteError(
            f"{count} pixels are NaN or infinite; replace them, e.g. by air (-1024)"
        )
    if low == high:
        raise NoAnatomyError(f"every pixel is {low:g}: there is nothing to assess")
    _check_hounsfield(values, low, high)
    soft = np.count_nonzero((values > _SOFT_TISSUE_HU[0]) & (values < _SOFT_TISSUE_HU[1]))
    if soft < _MIN_SOFT_TISSUE * values.size:
        raise NoAnatomyError("less than 0.3 % of the slice is soft tissue: no anatomy to assess")
    return values


def _check_hounsfield(values: NDArray[np.float32], low: float, high: float) -> None:
    """Refuse value ranges that no CT slice in HU has."""
    if max(abs(low), abs(high)) > _MAX_ABS_HU:
        raise NotHounsfieldError(f"values from {low:g} to {high:g} are far outside the HU range")
    if low > _FAT_HU:
        raise NotHounsfieldError(
            f"the lowest value is {low:g}: a CT slice in HU holds fat or air (below {_FAT_HU:g}). "
            "Stored pixel values need their rescale slope and intercept; pictures are not CT"
        )
    dense = np.count_nonzero(values > _DENSE_HU) / values.size
    if dense > _MAX_DENSE:
        raise NotHounsfieldError(
            f"{dense:.0%} of the pixels are denser than bone ({_DENSE_HU:g} HU): "
            "apply the rescale slope and intercept first"
        )


def square_pixels(
    hu: NDArray[np.generic], spacing: tuple[float, float] | None
) -> NDArray[np.generic]:
    """A slice whose pixels are as wide as high, at the finer of its two spacings.

    Shapes and blur are judged as they look, so pixels of unequal sides must be made square before
    `prepare`. Nearly all CT slices have square pixels and come back untouched.

    Args:
        hu: (H, W) Hounsfield units.
        spacing: millimetres between rows and between columns (DICOM Pixel Spacing, PS3.3
            10.7.1.3); None, zero or negative: not known, and the slice comes back untouched.

    Returns:
        (H', W'): `hu` itself, or float32 resampled along the coarser axis; of a side that would
        pass `MAX_SIDE` both axes shrink alike.
    """
    if spacing is None or hu.ndim != 2 or not all(0.0 < mm < math.inf for mm in spacing):
        return hu
    if abs(spacing[0] / spacing[1] - 1.0) <= _SQUARE:
        return hu
    extent = hu.shape[0] * spacing[0], hu.shape[1] * spacing[1]
    fine = max(min(spacing), max(extent) / MAX_SIDE)
    height, width = (max(1, round(side / fine)) for side in extent)
    return _resized(hu.astype(np.float32), (width, height), "bicubic")


def resample(
    hu: NDArray[np.float32], size: int, resampling: Resampling = "bicubic"
) -> NDArray[np.float32]:
    """Pad to a square with air, centred, and resample to (size, size) HU.

    A slice that has the size already is passed through untouched, so its noise texture survives.
    """
    height, width = hu.shape
    if height != width:
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = np.full((side, side), AIR_HU, np.float32)
        square[top : top + height, left : left + width] = hu
        hu = square
    return hu if hu.shape[0] == size else _resized(hu, (size, size), resampling)


def _resized(
    hu: NDArray[np.float32], size: tuple[int, int], resampling: Resampling
) -> NDArray[np.float32]:
    """(H, W) -> (height, width), `size` being (width, height); smoothed where it shrinks."""
    image = Image.fromarray(np.ascontiguousarray(hu, dtype=np.float32))
    return np.asarray(image.resize(size, _FILTERS[resampling]), dtype=np.float32)


def prepare(
    hu: NDArray[np.generic], spec: ImageSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Check one slice and turn it into encoder pixels.

    Args:
        hu: (H, W) Hounsfield units, integer or float.
        spec: size and windows of the bundle.
        out: (C, size, size), where to write them; None: a new array.

    Returns:
        (C, size, size) float32, one channel per window; in [-1, 1] unless the spec normalises
        otherwise. `out` itself, if given.

    Raises:
        InputError: one of its subclasses names what is wrong; `out` is then as it was.
    """
    return to_pixels(resample(check_slice(hu), spec.size, spec.resampling), spec, out)


def to_pixels(
    hu: NDArray[np.float32], spec: ImageSpec, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Windows of an already resampled slice: (size, size) HU -> (C, size, size) pixels."""
    pixels = np.empty((len(spec.windows), *hu.shape), np.float32) if out is None else out
    for window, channel in zip(spec.windows, pixels, strict=True):
        to_window(hu, window, channel)
    return pixels


def to_window(
    hu: NDArray[np.float32], window: Window, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """One display window: (H, W) HU -> (H, W), in [-1, 1] by the default normalisation."""
    scale = np.float32(1.0 / (window.std * (window.high - window.low)))
    shown = np.multiply(hu, scale, out=out)
    shown -= np.float32(window.mean / window.std) + np.float32(window.low) * scale
    darkest, brightest = -window.mean / window.std, (1.0 - window.mean) / window.std
    return np.clip(shown, np.float32(darkest), np.float32(brightest), out=shown)
