"""Physics of a degraded slice: noise, effective MTF, artifact energy, detectability.

Everything is measured on the slice as it is: the original's own noise and blur count. Distances
are in pixels of the slice as displayed (512 x 512 fills the screen), as a reader sees it.
Vocabulary and methods follow AAPM TG-233 (Med Phys 2019;46:e735, doi:10.1002/mp.13763).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .degrade import Layers
from .edges import edge_width
from .regions import ENOUGH_PX, PATCH, Array, Mask, without_slow_part

Spectrum = NDArray[np.float64]
"""Power of every term of a patch's DFT, (PATCH, PATCH)."""

LOCAL_PX = 9
"""Side of the squares that noise is measured in."""
COARSE_PX = 1.5
"""Gaussian blur that leaves the coarse part of noise."""
STRIDE, ENOUGH_COVER, FEWEST_PATCHES = 12, 0.7, 24
"""Noise power: distance of its squares, what share of one is tissue, and how many at least."""
LESION_RADIUS_PX = 4.0
LESION_CONTRAST_HU = 20.0
LESIONS = 9
"""Places that a lesion is tried at: what a denoiser leaves of it depends on what is beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What the simulated readers look at.

    Attributes:
        noise_hu: local standard deviation in soft tissue, HU (global noise level).
        coarse_noise_hu: the same after a 1.5 px blur: the coarse part, which hides more.
        mtf50: frequency at which the effective MTF falls to one half, cycles/pixel.
        streak_hu: root mean square of the artifacts in even tissue far from edges, HU, slow
            shading left out.
        detectability: d' of a non-prewhitening observer with eye filter, small lesion.
    """

    noise_hu: float
    coarse_noise_hu: float
    mtf50: float
    streak_hu: float
    detectability: float

    def to_dict(self) -> dict[str, float]:
        """Plain numbers for the manifest."""
        return asdict(self)


def measure(layers: Layers) -> Measurements:
    """All measurements of one degraded slice."""
    fine, coarse = _noise(layers.without_artifacts, layers.regions.tissue)
    own = _own_noise_power(*_noise(layers.noise_free, layers.regions.tissue))
    looked_at = max(int(np.count_nonzero(layers.regions.inner)), 1)
    return Measurements(
        noise_hu=fine,
        coarse_noise_hu=coarse,
        mtf50=0.1874 / edge_width(layers.noise_free),
        streak_hu=float(np.sqrt(np.sum(layers.streaks**2) / looked_at)),
        detectability=_detectability(_lesion_spectrum(layers), own + _added_noise_power(layers)),
    )


def _noise(hu: Array, tissue: Mask) -> tuple[float, float]:
    """Noise, and its coarse part, HU."""
    return (
        _local_deviation(hu, tissue),
        _local_deviation(ndimage.gaussian_filter(hu, COARSE_PX), tissue),
    )


def _local_deviation(hu: Array, tissue: Mask) -> float:
    """Typical standard deviation within 9 x 9 pixels, HU: the lower third is free of anatomy."""
    mean = ndimage.uniform_filter(hu, LOCAL_PX)
    variance = ndimage.uniform_filter((hu - mean) ** 2, LOCAL_PX)
    enough = np.count_nonzero(tissue) > ENOUGH_PX
    values = variance[tissue] if enough else variance[np.abs(hu) < 300.0]
    return float(np.sqrt(max(np.percentile(values, 33), 0.0))) if values.size else 0.0


def _detectability(signal: Spectrum, noise: Spectrum) -> float:
    """d' of a low-contrast disc for the non-prewhitening observer with eye filter (NPWE).

    d'^2 = (sum |W|^2 E^2)^2 / sum |W|^2 E^4 NPS, with W the disc's spectrum after kernel and
    denoiser and E the eye filter f^1.3 exp(-c f^2) (Burgess 1994).

    Args:
        signal: |W|^2, (PATCH, PATCH) HU^2.
        noise: NPS, alike.
    """
    f = _radial_frequency()
    eye = (f / 0.06) ** 1.3 * np.exp(-1.3 / 2.0 * ((f / 0.06) ** 2 - 1.0))
    return float(
        np.sum(signal * eye**2) / np.sqrt(max(float(np.sum(signal * eye**4 * noise)), 1e-9))
    )


def _radial_frequency(size: int = PATCH) -> Spectrum:
    """Radial frequency of every term of a DFT of (size, size), cycles/pixel."""
    axis = np.fft.fftfreq(size)
    return np.hypot(axis[:, None], axis[None, :])


def _lesion_spectrum(layers: Layers) -> Spectrum:
    """E|DFT|^2 of a lesion after kernel and denoiser, over places in even tissue, HU^2."""
    rows, columns = np.nonzero(layers.regions.inner)
    size = layers.image.shape[0]
    if not len(rows):
        rows = columns = np.array([size // 2])
    powers = []
    for i in np.linspace(0, len(rows) - 1, LESIONS + 2)[1:-1].astype(int):
        cy, cx = (min(max(int(c), PATCH), size - PATCH) for c in (rows[i], columns[i]))
        base = layers.without_artifacts[cy - PATCH : cy + PATCH, cx - PATCH : cx + PATCH]
        powers.append(np.abs(np.fft.fft2(_lesion(layers.kernel, base))) ** 2)
    return np.asarray(np.mean(powers, 0))


def _lesion(kernel: Callable[[Array], Array], base: Array) -> Array:
    """What kernel and denoiser leave of a disc in the middle of `base`: (PATCH, PATCH) HU."""
    y, x = np.mgrid[-PATCH:PATCH, -PATCH:PATCH]
    disc = LESION_CONTRAST_HU * np.clip(LESION_RADIUS_PX + 0.5 - np.hypot(y, x), 0.0, 1.0)
    left = kernel((base + disc).astype(np.float32)) - kernel(base)
    return left[PATCH // 2 : -PATCH // 2, PATCH // 2 : -PATCH // 2]


def _own_noise_power(fine_hu: float, coarse_hu: float) -> Spectrum:
    """E|DFT|^2 of the original's own noise: a ramp times a Gaussian, as coarse as it is measured.

    Anatomy hides the low frequencies of the original's spectrum; the form that filtered
    back-projection gives noise does not depend on them, and the share that a blur leaves tells how
    wide its kernel was.
    """
    shape = _ramp_noise(_kernel_px(coarse_hu / max(fine_hu, 1e-6)), PATCH)
    return np.asarray(shape / np.sum(shape * _seen_locally(PATCH)) * (fine_hu * PATCH**2) ** 2)


def _ramp_noise(kernel_px: float, size: int) -> Spectrum:
    """NPS of noise after Ram-Lak and a Gaussian kernel, any scale: (size, size)."""
    f = _radial_frequency(size)
    return np.asarray(f * np.exp(-((2.0 * np.pi * kernel_px * f) ** 2)))


def _kernel_px(coarse_share: float) -> float:
    """Width of the kernel whose noise keeps this share of its deviation after the coarse blur."""
    widths, shares = _coarse_shares()
    return float(np.interp(coarse_share, shares, widths))


@cache
def _coarse_shares() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Kernel widths, and the share of local deviation that noise of each keeps; both rise."""
    size = 128
    blur = np.exp(-((2.0 * np.pi * COARSE_PX * _radial_frequency(size)) ** 2))
    widths = np.linspace(0.2, 4.0, 77)
    powers = [_ramp_noise(width, size) * _seen_locally(size) for width in widths]
    return widths, np.array([np.sqrt(np.sum(p * blur) / np.sum(p)) for p in powers])


def _seen_locally(size: int) -> Spectrum:
    """Share of the power at every term of a DFT that is left when the local mean is taken off."""
    offsets = np.arange(LOCAL_PX) - LOCAL_PX // 2
    box = np.cos(2.0 * np.pi * np.outer(np.fft.fftfreq(size), offsets)).mean(1)
    return np.asarray((1.0 - np.outer(box, box)) ** 2)


def _added_noise_power(layers: Layers) -> Spectrum:
    """E|DFT|^2 of what was added to the original (noise and artifacts), where readers look."""
    where = layers.regions.inner
    added = without_slow_part(layers.image - layers.noise_free, where)
    taper = np.outer(np.hanning(PATCH), np.hanning(PATCH))
    fields, covers = (_patches(part) for part in (np.clip(added, -300.0, 300.0), where))
    weight = np.tensordot(covers, taper**2, 2) / PATCH**2
    enough = ENOUGH_COVER * np.mean(taper**2)
    best = weight >= min(enough, np.sort(weight, axis=None)[-FEWEST_PATCHES])
    power = np.abs(np.fft.fft2(fields[best] * taper)) ** 2
    power /= np.maximum(weight[best], 0.02)[:, None, None]
    return np.asarray(np.median(power, axis=0) / np.log(2.0))


def _patches(values: Array | Mask) -> NDArray[Any]:
    """(rows, columns, PATCH, PATCH) squares all over a slice."""
    return np.lib.stride_tricks.sliding_window_view(values, (PATCH, PATCH))[::STRIDE, ::STRIDE]
