"""What is no CT slice, made from CT slices: training shows it with no level favoured.

A captioner that never saw such input is sure of itself there (outlier exposure, Hendrycks 2019,
arXiv 1812.04606). Test inputs of `benchmarks.quality` are of other kinds, or made otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Hu = NDArray[np.float32]
Rng = np.random.Generator


def outsider(slices: Sequence[Hu], rng: Rng) -> Hu:
    """One picture in the range of HU that shows no axial slice, (H, W) as the first of `slices`.

    Args:
        slices: two or more CT slices of one size, HU.
        rng: decides the kind and all about it.
    """
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    picks = rng.permutation(len(slices))[:2]
    picture = kind(slices[int(picks[0])], slices[int(picks[1])], rng)
    return np.clip(picture, -1024.0, 3071.0).astype(np.float32)


def _other_contrast(hu: Hu, _: Hu, rng: Rng) -> Hu:
    """Another modality's grey values: a random curve that does not rise with density."""
    knots = np.array([-1024.0, -600.0, -150.0, -50.0, 20.0, 80.0, 200.0, 600.0, 3071.0])
    levels = rng.uniform(-1000.0, 1200.0, len(knots))
    levels[0] = -1000.0 if rng.random() < 0.7 else levels[0]
    shade = 1.0 + rng.uniform(-0.4, 0.4) * np.linspace(-1.0, 1.0, hu.shape[1])
    grey = (np.interp(hu, knots, levels) + 1000.0) * shade - 1000.0
    noise = rng.uniform(0.0, 40.0) * rng.standard_normal(hu.shape)
    return np.asarray(grey + noise, np.float32)


def _projection(hu: Hu, other: Hu, rng: Rng) -> Hu:
    """A scout view: line integrals across, anatomy that changes slowly along the table."""
    across = (hu + 1000.0).mean(0), (other + 1000.0).mean(0)
    along = ndimage.gaussian_filter1d(rng.standard_normal(hu.shape[0]), rng.uniform(10.0, 60.0))
    share = (along - along.min()) / np.ptp(along)
    lines = share[:, None] * across[0] + (1.0 - share[:, None]) * across[1]
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape), rng.uniform(0.0, 2.0))
    picture = lines / max(float(lines.max()), 1.0) * rng.uniform(800.0, 2500.0) - 1000.0
    picture = picture + rng.uniform(0.0, 60.0) * grain
    return np.asarray(picture if rng.random() < 0.5 else picture.T, np.float32)


def _noise_field(hu: Hu, _: Hu, rng: Rng) -> Hu:
    """Noise of a random grain and contrast, without any anatomy."""
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape), rng.uniform(0.0, 12.0))
    return np.asarray(
        rng.uniform(-700.0, 300.0) + rng.uniform(30.0, 400.0) * grain / grain.std(), np.float32
    )


def _torn(hu: Hu, _: Hu, rng: Rng) -> Hu:
    """Stripes or tiles of a slice, out of order."""
    side = int(rng.choice([16, 32, 128]))
    strips = np.split(hu, hu.shape[0] // side)
    picture = np.concatenate([strips[i] for i in rng.permutation(len(strips))])
    if rng.random() < 0.7:
        strips = np.split(picture, hu.shape[1] // side, axis=1)
        picture = np.concatenate([strips[i] for i in rng.permutation(len(strips))], axis=1)
    return picture


def _magnified(hu: Hu, _: Hu, rng: Rng) -> Hu:
    """A few centimetres that fill the screen: no anatomy to judge by."""
    side = int(rng.integers(48, 112))
    y, x = rng.integers(0, np.array(hu.shape) - side)
    return np.asarray(ndimage.zoom(hu[y : y + side, x : x + side], hu.shape[0] / side, order=1))


def _phantom(hu: Hu, _: Hu, rng: Rng) -> Hu:
    """A quality-assurance phantom: an even cylinder in air, mostly with inserts, and noise."""
    size = hu.shape[0]
    y, x = np.mgrid[:size, : hu.shape[1]] / size - 0.5 + rng.uniform(-0.05, 0.05, (2, 1, 1))
    squash = rng.uniform(0.8, 1.25) if rng.random() < 0.3 else 1.0
    outer = rng.uniform(0.15, 0.48)
    within = np.hypot(y * squash, x) < outer
    picture = np.where(within, rng.uniform(-120.0, 130.0), -1000.0)
    for _insert in range(int(rng.integers(0, 9))):
        radius, turn = outer * rng.uniform(0.2, 0.8), rng.uniform(0.0, 2.0 * np.pi)
        spot = np.hypot(y - radius * np.sin(turn), x - radius * np.cos(turn))
        inside = spot < rng.uniform(0.005, 0.06)
        picture[inside & within] = rng.choice([-1000.0, -100.0, 20.0, 120.0, 340.0, 990.0])
    picture = ndimage.gaussian_filter(picture, rng.uniform(0.3, 2.0))
    grain = ndimage.gaussian_filter(rng.standard_normal(hu.shape), rng.uniform(0.0, 1.5))
    return np.asarray(picture + rng.uniform(0.0, 60.0) * grain / grain.std(), np.float32)


_KINDS = (_phantom, _other_contrast, _other_contrast, _projection, _noise_field, _torn, _magnified)
