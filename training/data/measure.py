"""Physics of a degraded slice: noise, effective MTF, artifact energy, detectability.

Everything is measured on the slice as it is: the original's own noise and blur count. Distances
are in pixels of the slice as displayed (512 x 512 fills the screen), as a reader sees it.
Vocabulary and methods follow AAPM TG-233 (Med Phys 2019;46:e735, doi:10.1002/mp.13763).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .degrade import Layers
from .edges import edge_width
from .regions import ENOUGH_PX, PATCH, Array, Mask, Regions

Spectrum = NDArray[np.float64]
"""Power of every term of a patch's DFT, (PATCH, PATCH)."""

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


def measure(layers: Layers, regions: Regions) -> Measurements:
    """All measurements of one degraded slice."""
    tissue, quiet = regions.tissue, layers.without_artifacts
    width = edge_width(layers.noise_free)
    own = _own_noise_power(width, _local_deviation(layers.noise_free, tissue))
    seen = layers.streaks[regions.inner] if regions.inner.any() else layers.streaks
    return Measurements(
        noise_hu=_local_deviation(quiet, tissue),
        coarse_noise_hu=_local_deviation(ndimage.gaussian_filter(quiet, 1.5), tissue),
        mtf50=0.1874 / width,
        streak_hu=float(np.sqrt(np.mean(seen**2))),
        detectability=_detectability(
            _lesion_spectrum(layers, regions.inner), own + _added_noise_power(layers, tissue)
        ),
    )


def _local_deviation(hu: Array, tissue: Mask) -> float:
    """Typical standard deviation within 9 x 9 pixels, HU: the lower third is free of anatomy."""
    mean = ndimage.uniform_filter(hu, 9)
    variance = ndimage.uniform_filter((hu - mean) ** 2, 9)
    enough = np.count_nonzero(tissue) > ENOUGH_PX
    values = variance[tissue] if enough else variance[np.abs(hu) < 300.0]
    return float(np.sqrt(np.percentile(values, 33))) if values.size else 0.0


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


def _radial_frequency() -> Spectrum:
    """Radial frequency of every term of a patch's DFT, cycles/pixel."""
    axis = np.fft.fftfreq(PATCH)
    return np.hypot(axis[:, None], axis[None, :])


def _lesion_spectrum(layers: Layers, where: Mask) -> Spectrum:
    """E|DFT|^2 of a lesion after kernel and denoiser, over places in even tissue, HU^2."""
    rows, columns = np.nonzero(where)
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


def _own_noise_power(edge_px: float, noise_hu: float) -> Spectrum:
    """E|DFT|^2 of the original's own noise: the ramp times MTF^2, scaled to its variance.

    Anatomy hides the low frequencies of the original's spectrum; the form that filtered
    back-projection gives noise does not depend on them.
    """
    f = _radial_frequency()
    shape = f * np.exp(-((2.0 * np.pi * edge_px * f) ** 2))
    return np.asarray(shape / shape.mean() * (noise_hu * PATCH) ** 2)


def _added_noise_power(layers: Layers, tissue: Mask) -> Spectrum:
    """E|DFT|^2 of what was added to the original (noise and artifacts) over soft tissue."""
    added = layers.image - layers.noise_free
    cover = ndimage.uniform_filter(tissue.astype(np.float32), PATCH)[16:-16:12, 16:-16:12]
    windows = np.lib.stride_tricks.sliding_window_view(added, (PATCH, PATCH))[::12, ::12]
    cover = cover[: windows.shape[0], : windows.shape[1]]
    windows = windows[: cover.shape[0], : cover.shape[1]]
    patches = windows[cover >= min(0.7, float(np.sort(cover, axis=None)[-8]))]
    taper = np.outer(np.hanning(PATCH), np.hanning(PATCH))
    power = np.abs(np.fft.fft2(np.clip(patches, -300, 300) * taper)) ** 2
    return np.asarray(np.median(power, axis=0) / 0.69 / np.mean(taper**2))
