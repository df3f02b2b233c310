"""Physics of a degraded slice: noise, effective MTF, artifact energy, detectability.

Everything is measured on the slice as it is: the original's own noise and blur count. Distances
are in pixels of the slice as displayed (512 x 512 fills the screen), as a reader sees it.
Vocabulary and methods follow AAPM TG-233 (Med Phys 2019;46:e735, doi:10.1002/mp.13763).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .degrade import Layers
from .edges import edge_width

Array = NDArray[np.float32]

PATCH = 32
EDGE_MARGIN_PX = 8
"""Streaks are measured this far from edges: motion moves them by nearly as much."""
LESION_RADIUS_PX = 4.0
LESION_CONTRAST_HU = 20.0


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


def measure(layers: Layers, original: Array, body: NDArray[np.bool_]) -> Measurements:
    """All measurements of one degraded slice; arrays are (512, 512) HU."""
    tissue = soft_tissue(original)
    quiet = layers.without_artifacts
    return Measurements(
        noise_hu=_local_deviation(quiet, tissue),
        coarse_noise_hu=_local_deviation(ndimage.gaussian_filter(quiet, 1.5), tissue),
        mtf50=0.1874 / edge_width(layers.noise_free),
        streak_hu=_streak_energy(layers.image - quiet, _far_from_edges(tissue, body)),
        detectability=_detectability(layers, tissue, _local_deviation(layers.noise_free, tissue)),
    )


def soft_tissue(hu: Array) -> NDArray[np.bool_]:
    """Even soft tissue of a slice: away from air, bone and strong edges."""
    smooth = ndimage.gaussian_filter(hu, 2.5)
    mask = (smooth > -150.0) & (smooth < 200.0)
    edges = ndimage.gaussian_gradient_magnitude(hu, 2.5)
    mask &= edges < 12.0
    return ndimage.binary_erosion(mask, iterations=2)


def _far_from_edges(tissue: NDArray[np.bool_], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where streaks are measured: the inner even tissue; all of it, or the body, if too little."""
    inner = ndimage.distance_transform_edt(tissue) > EDGE_MARGIN_PX
    return next((mask for mask in (inner, tissue) if np.count_nonzero(mask) > 200), body)


def _local_deviation(hu: Array, tissue: NDArray[np.bool_]) -> float:
    """Typical standard deviation within 9 x 9 pixels, HU: the lower third is free of anatomy."""
    mean = ndimage.uniform_filter(hu, 9)
    variance = ndimage.uniform_filter((hu - mean) ** 2, 9)
    values = variance[tissue] if np.count_nonzero(tissue) > 200 else variance[np.abs(hu) < 300.0]
    return float(np.sqrt(np.percentile(values, 33))) if values.size else 0.0


def streaks(artifacts: Array) -> Array:
    """Streaks, rings and ghosts without slow shading, HU, at most half a soft-tissue window."""
    band = ndimage.gaussian_filter(artifacts, 0.7) - ndimage.gaussian_filter(artifacts, 16.0)
    return np.clip(band, -200.0, 200.0)


def _streak_energy(artifacts: Array, where: NDArray[np.bool_]) -> float:
    """Root mean square of the streaks, HU.

    Displaced edges (motion) are not counted where they are, only what they cast over tissue.
    """
    values = streaks(artifacts)
    return float(np.sqrt(np.mean((values[where] if where.any() else values) ** 2)))


def _detectability(layers: Layers, tissue: NDArray[np.bool_], noise_hu: float) -> float:
    """d' of a low-contrast disc for the non-prewhitening observer with eye filter (NPWE).

    d'^2 = (sum |W|^2 E^2)^2 / sum |W|^2 E^4 NPS, with W the disc's spectrum after kernel and
    denoiser and E the eye filter f^1.3 exp(-c f^2) (Burgess 1994).
    """
    spectrum = np.abs(np.fft.fft2(_lesion_signal(layers, tissue))) ** 2
    nps = _added_noise_power(layers, tissue) + _own_noise_power(layers.noise_free, noise_hu)
    f = _radial_frequency()
    eye = (f / 0.06) ** 1.3 * np.exp(-1.3 / 2.0 * ((f / 0.06) ** 2 - 1.0))
    signal = np.sum(spectrum * eye**2)
    noise = np.sum(spectrum * eye**4 * nps)
    return float(signal / np.sqrt(max(noise, 1e-9)))


def _radial_frequency() -> NDArray[np.float64]:
    """Radial frequency of every term of a patch's DFT, cycles/pixel."""
    axis = np.fft.fftfreq(PATCH)
    return np.hypot(axis[:, None], axis[None, :])


def _lesion_signal(layers: Layers, tissue: NDArray[np.bool_]) -> Array:
    """The lesion after kernel and denoiser, (PATCH, PATCH) HU, at the evenest tissue."""
    rows, columns = np.nonzero(tissue)
    size = layers.image.shape[0]
    middle = len(rows) // 2
    cy, cx = (int(rows[middle]), int(columns[middle])) if len(rows) else (size // 2, size // 2)
    half = PATCH
    cy, cx = (min(max(c, half), size - half) for c in (cy, cx))
    window = np.s_[cy - half : cy + half, cx - half : cx + half]
    y, x = np.mgrid[-half:half, -half:half]
    disc = LESION_CONTRAST_HU * np.clip(LESION_RADIUS_PX + 0.5 - np.hypot(y, x), 0.0, 1.0)
    base = layers.without_artifacts[window]
    with_lesion = layers.kernel((base + disc).astype(np.float32)) - layers.kernel(base)
    return with_lesion[half - PATCH // 2 : half + PATCH // 2, half - PATCH // 2 : half + PATCH // 2]


def _own_noise_power(noise_free: Array, noise_hu: float) -> NDArray[np.float64]:
    """E|DFT|^2 of the original's own noise: the ramp times MTF^2, scaled to its variance.

    Anatomy hides the low frequencies of the original's spectrum; the form that filtered
    back-projection gives noise does not depend on them.
    """
    f = _radial_frequency()
    width = edge_width(noise_free)
    shape = f * np.exp(-((2.0 * np.pi * width * f) ** 2))
    return np.asarray(shape / shape.mean() * (noise_hu * PATCH) ** 2)


def _added_noise_power(layers: Layers, tissue: NDArray[np.bool_]) -> NDArray[np.float64]:
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
