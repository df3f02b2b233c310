"""Physical degradations of one slice, each drawn at random with its strength written down.

Noise, sparse and limited views, motion, rings and beam hardening are made in the projection
domain; blur is the reconstruction kernel's MTF; over-smoothing is a total-variation denoiser.
Artifacts are computed as differences of two reconstructions, so that the slice's own resolution
and noise stay what the real scanner made them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_tv_chambolle

from .edges import edge_width
from .geometry import VIEWS, Scanner
from .regions import Regions, without_slow_part

Array = NDArray[np.float32]
Rng = np.random.Generator

AEC_NOISE_HU = 9.0
"""Quantum noise that full dose adds in the body: the tube current follows the patient (AEC)."""
KERNEL = 0.8
"""Width of the reconstruction kernel, over that of the edges, which thick slices widen, too."""
_ELECTRONIC = 0.02
_METAL_HU = 8000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Degradation:
    """What is done to a slice. Zero, or the neutral value given, means: not done.

    Attributes:
        dose: dose fraction, (0, 1]; 1 adds no noise.
        views: number of views kept out of `VIEWS`.
        missing_deg: angular range never measured, degrees.
        motion_px: patient shift half-way through the scan, pixels.
        ring: detector gain error (standard deviation, line-integral units).
        hardening: beam-hardening coefficient of dense matter, per squared line integral.
        metal_px: radius of a metal implant, pixels.
        blur_px: standard deviation of the reconstruction kernel's blur, pixels.
        smoothing: weight of the total-variation denoiser, HU.
    """

    dose: float = 1.0
    views: int = VIEWS
    missing_deg: float = 0.0
    motion_px: float = 0.0
    ring: float = 0.0
    hardening: float = 0.0
    metal_px: float = 0.0
    blur_px: float = 0.0
    smoothing: float = 0.0


def draw(rng: Rng) -> Degradation:
    """A random degradation: none (6 %), or noise, blur, one artifact and smoothing, often mixed."""
    if rng.random() < 0.06:
        return Degradation()
    parts: dict[str, float | int] = {}
    if rng.random() < 0.65:
        parts["dose"] = log_uniform(0.015, 0.8, rng)
    if rng.random() < 0.5:
        parts["blur_px"] = float(rng.uniform(0.4, 2.8))
    if rng.random() < 0.85:
        parts.update(_draw_artifact(rng))
    if rng.random() < 0.15:
        parts["smoothing"] = float(rng.uniform(10.0, 60.0))
    return Degradation(**parts)  # type: ignore[arg-type]


def log_uniform(low: float, high: float, rng: Rng) -> float:
    """A random number whose halves and doubles are as likely."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _draw_artifact(rng: Rng) -> dict[str, float | int]:
    """One artifact, as often faint as strong: readers use their whole scale for every kind."""
    kind = rng.choice(
        ["views", "missing", "motion", "ring", "metal"], p=[0.25, 0.15, 0.22, 0.16, 0.22]
    )
    if kind == "views":
        return {"views": VIEWS // int(rng.choice([2, 3, 4, 5, 6, 8]))}
    if kind == "missing":
        return {"missing_deg": float(rng.uniform(3.0, 40.0))}
    if kind == "motion":
        return {"motion_px": float(rng.uniform(0.7, 7.0))}
    if kind == "ring":
        return {"ring": log_uniform(0.005, 0.12, rng)}
    return {
        "metal_px": float(rng.uniform(2.0, 8.0)),
        "hardening": log_uniform(0.02, 0.6, rng),
    }


@dataclass(frozen=True)
class Layers:
    """A degraded slice and the companions that the readers measure on; all (size, size) HU.

    An implant is in all three: it is anatomy by now, only what it casts is an artifact.

    Attributes:
        image: the degraded slice.
        without_artifacts: the same, but for the artifacts.
        noise_free: only what the kernel and the denoiser did to the original.
        kernel: blur and denoiser as a function, to pass test objects through.
        regions: where to measure.
    """

    image: Array
    without_artifacts: Array
    noise_free: Array
    kernel: Callable[[Array], Array] = field(repr=False)
    regions: Regions = field(repr=False)

    @cached_property
    def streaks(self) -> Array:
        """Streaks, rings and ghosts without slow shading, HU, at most half a soft-tissue window.

        Zero outside of `regions.inner`: what displaced edges (motion) cast over tissue is what
        counts, not the edges themselves.
        """
        added = ndimage.gaussian_filter(self.image - self.without_artifacts, 0.7)
        return np.clip(without_slow_part(added, self.regions.inner), -200.0, 200.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What a scanner of its own left in an original that was derived from another.

    Attributes:
        hardening: beam hardening of bone; no reader counts it, as nobody counts what a real
            scanner left in.
        dose: dose fraction, (0, 1]; its noise counts as a real scanner's does.
        grain: width of the kernel of all noise, over that of the edges: fine grain of a sharp
            filter, or coarse mottle.
        seed: of the noise.
    """

    hardening: float = 0.0
    dose: float = 1.0
    grain: float = KERNEL
    seed: int = 0


class Degrader:
    """Degrades one original slice; its projection and unit noise are computed once.

    Args:
        hu: (size, size) float32, the original in HU.
        spacing: mm per pixel.
        own: what the original is given before.
    """

    def __init__(self, hu: Array, spacing: float, own: Own | None = None) -> None:
        own = own or Own()
        self.scanner = Scanner(hu.shape[0], spacing)
        self.hu = hu
        if own.hardening > 0.0:
            shadows = self._hardening(own.hardening, np.zeros(hu.shape, np.bool_))
            self.hu = np.clip(hu + shadows, -1024.0, 3071.0)
        self.sinogram = self.scanner.project(self.hu)
        body = ndimage.binary_opening(self.hu > -300.0, iterations=3)
        self.body = ndimage.binary_fill_holes(body)
        self.regions = Regions.of(self.hu, self.body)
        edge_px = edge_width(self.hu)
        self._kernel_px, self._grain_px = KERNEL * edge_px, own.grain * edge_px
        self._photons = self._aec_photons()
        if own.dose < 1.0:
            noise = self._noise(own.dose, np.random.default_rng(own.seed))
            self.hu = np.clip(self.hu + noise, -1024.0, 3071.0)
            self.sinogram = self.scanner.project(self.hu)

    @cached_property
    def _reconstructed(self) -> Array:
        """What this scanner makes of the slice with all its views."""
        return self.scanner.reconstruct(self.sinogram)

    def _aec_photons(self) -> float:
        """Photons per ray at which full dose gives `AEC_NOISE_HU` within the body."""
        noise = np.random.default_rng(0).standard_normal(self.sinogram.shape)
        unit = self._reconstruct_noise(np.exp(self.sinogram / 2.0) * noise)
        inside = unit[self.body] if self.body.any() else unit
        return float((np.median(np.abs(inside)) * 1.4826 / AEC_NOISE_HU) ** 2)

    def apply(self, degradation: Degradation, rng: Rng) -> Layers:
        """The degraded slice and its companions."""
        noise = self._noise(degradation.dose, rng)
        disc = self._disc(degradation.metal_px, rng)
        artifacts = self._artifacts(degradation, disc, rng)
        hu = self.hu + self._implant(disc)

        def kernel(hu: Array) -> Array:
            if degradation.blur_px > 0.0:
                hu = ndimage.gaussian_filter(hu, degradation.blur_px)
            if degradation.smoothing > 0.0:
                hu = denoise_tv_chambolle(hu, degradation.smoothing, max_num_iter=30)
            return hu.astype(np.float32)

        quiet = np.clip(kernel(hu + noise), -1024.0, 3071.0)
        return Layers(
            image=np.clip(kernel(hu + noise + artifacts), -1024.0, 3071.0)
            if artifacts.any()
            else quiet,
            without_artifacts=quiet,
            noise_free=kernel(hu),
            kernel=kernel,
            regions=self.regions,
        )

    def _noise(self, dose: float, rng: Rng) -> Array:
        """Quantum (Poisson) and electronic noise that lowering the dose adds, in HU."""
        if dose >= 1.0:
            return np.zeros_like(self.hu)
        photons = self._photons * dose / (1.0 - dose)
        expected = np.maximum(photons * np.exp(-self.sinogram), 1.0)
        counts = rng.poisson(expected) + _ELECTRONIC * np.sqrt(photons) * rng.standard_normal(
            expected.shape
        )
        return self._reconstruct_noise(-(counts - expected) / expected)

    def _reconstruct_noise(self, error: NDArray[np.float64]) -> Array:
        """Noise in line integrals -> HU, through the kernel of its grain."""
        image = self.scanner.reconstruct(error.astype(np.float32))
        return np.asarray(ndimage.gaussian_filter(image, self._grain_px), np.float32)

    def _disc(self, radius_px: float, rng: Rng) -> NDArray[np.bool_]:
        """Where in the body an implant is, if anywhere: (size, size)."""
        if radius_px <= 0.0:
            return np.zeros(self.hu.shape, np.bool_)
        rows, columns = np.nonzero(self.body if self.body.any() else np.ones_like(self.body))
        pick = int(rng.integers(len(rows)))
        y, x = np.ogrid[: self.hu.shape[0], : self.hu.shape[1]]
        return np.asarray((y - rows[pick]) ** 2 + (x - columns[pick]) ** 2 <= radius_px**2)

    def _implant(self, disc: NDArray[np.bool_]) -> Array:
        """The HU that an implant adds, as sharp as the slice is."""
        added = np.where(disc, np.float32(3071.0) - self.hu, np.float32(0.0))
        return np.asarray(ndimage.gaussian_filter(added, self._kernel_px), np.float32)

    def _artifacts(self, d: Degradation, disc: NDArray[np.bool_], rng: Rng) -> Array:
        """The HU that sparse views, a missing wedge, motion, rings and metal add."""
        change = np.zeros_like(self.hu)
        scanner = self.scanner
        if d.motion_px > 0.0:
            direction = rng.uniform(0.0, 2.0 * np.pi)
            step = d.motion_px * np.array([np.sin(direction), np.cos(direction)])
            moved = scanner.project(ndimage.shift(self.hu, step, order=1, cval=-1000.0))
            when = np.clip((np.arange(VIEWS) / VIEWS - rng.uniform(0.3, 0.7)) / 0.1 + 0.5, 0, 1)
            blend = when[:, None].astype(np.float32)
            change += scanner.reconstruct(blend * (moved - self.sinogram))
        if d.ring > 0.0:
            gain = rng.standard_normal(scanner.detectors) * (rng.random(scanner.detectors) < 0.1)
            change += scanner.reconstruct(
                np.broadcast_to((d.ring * gain).astype(np.float32), self.sinogram.shape)
            )
        if d.metal_px > 0.0:
            change += self._hardening(d.hardening, disc)
        if d.views < VIEWS:
            step_views = slice(int(rng.integers(VIEWS // d.views)), None, VIEWS // d.views)
            change += scanner.reconstruct(self.sinogram, step_views)
            change -= self._reconstructed
        if d.missing_deg > 0.0:
            lost = round(VIEWS * d.missing_deg / 180.0)
            rolled = np.roll(np.arange(VIEWS), int(rng.integers(VIEWS)))
            masked = self.sinogram.copy()
            masked[rolled[:lost]] = 0.0
            change += scanner.reconstruct(masked - self.sinogram)
        return change

    def _hardening(self, coefficient: float, disc: NDArray[np.bool_]) -> Array:
        """The shadows and streaks that a metal disc and bone cast together."""
        with_metal = np.where(disc, np.float32(_METAL_HU), self.hu)
        dense = np.where(with_metal > 300.0, with_metal, -1000.0).astype(np.float32)
        line = self.scanner.project(dense)
        shadow = self.scanner.reconstruct(-np.float32(coefficient) * line**2)
        return np.where(disc, np.float32(0.0), shadow).astype(np.float32)
