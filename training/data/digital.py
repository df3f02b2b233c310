"""Digital anatomies: heads and trunks drawn at random, whose like no patient of the data shows.

What a few patients have in common is soon taken for what all have. These have nothing in common
but physics: tissues of random shape and density, a random point spread and the noise of a random
kernel. They train and never test; realism is not their aim (domain randomisation, Tobin et al.
2017, arXiv 1703.06907).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .scans import SIZE, Original, derived

Array = NDArray[np.float64]
Rng = np.random.Generator

HEADS = 2
"""Of three digital patients so many are heads: real ones are rare in public data."""


def digital_patient(name: str, count: int, seed: int) -> list[Original]:
    """`count` slices of one digital patient, each drawn anew and scanned another way.

    Args:
        name: ends in a number, which says whether heads are drawn or trunks.
        count: slices.
        seed: the same name and seed give the same slices.
    """
    number = int(name.rpartition("-")[2])
    rng = np.random.default_rng([seed, 2, number])
    draw = _head if number % 3 < HEADS else _trunk
    return [_scanned(draw(rng), name, index, rng) for index in range(count)]


def _scanned(picture: Array, name: str, index: int, rng: Rng) -> Original:
    """The picture from a random point of view, as a scanner with its own kernel shows it."""
    plain = Original(
        scan=name,
        patient=name,
        body_part="phantom",
        index=index,
        spacing=float(rng.uniform(0.4, 0.9)),
        hu=ndimage.gaussian_filter(picture, 0.4).astype(np.float32),
    )
    seen = derived(plain, rng)
    noise = float(np.exp(rng.uniform(np.log(1.5), np.log(25.0)))) * _grain(rng)
    blurred = ndimage.gaussian_filter(seen.hu, np.exp(rng.uniform(np.log(0.4), np.log(1.6))))
    attenuated = 1.0 + 0.4 * ndimage.gaussian_filter(blurred > -300.0, 60.0, output=np.float64)
    hu = np.clip(blurred + noise * attenuated, -1024.0, 3071.0)
    return replace(seen, hu=hu.astype(np.float32))


def _grain(rng: Rng) -> Array:
    """Noise as filtered back-projection leaves it, ramp and kernel, of standard deviation 1."""
    axis = np.fft.fftfreq(SIZE)
    f = np.hypot(axis[:, None], axis[None, :])
    width, order = rng.uniform(0.12, 0.45), rng.uniform(1.5, 6.0)
    shape = np.sqrt(f) * np.exp(-((f / width) ** order))
    grain = np.fft.ifft2(np.fft.fft2(rng.standard_normal((SIZE, SIZE))) * shape).real
    return np.asarray(grain / grain.std())


def _field(rng: Rng, pixels: float) -> Array:
    """A smooth random field, standard deviation 1, whose hills are about `pixels` wide."""
    side = max(4, round(SIZE / pixels) + 3)
    field = ndimage.zoom(rng.standard_normal((side, side)), SIZE / (side - 3), order=3)
    at = (field.shape[0] - SIZE) // 2
    cut = field[at : at + SIZE, at : at + SIZE]
    return np.asarray((cut - cut.mean()) / cut.std())


def _frame(rng: Rng) -> tuple[Array, Array]:
    """Rows and columns from -1 to 1, bent at random."""
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE / 2.0) - 1.0
    bend = rng.uniform(0.0, 0.05)
    return y + bend * _field(rng, 160.0), x + bend * _field(rng, 160.0)


def _paint(
    picture: Array, where: NDArray[np.bool_], mean: float, texture: Array | None = None
) -> None:
    """Give a part of the picture a tissue: a mean in HU, and (SIZE, SIZE) HU about it."""
    picture[where] = mean if texture is None else (mean + texture)[where]


def _head(rng: Rng) -> Array:
    """Scalp, skull with diploe, folded grey and white matter, ventricles; or a skull base."""
    y, x = _frame(rng)
    r = np.hypot(y / rng.uniform(0.72, 0.92), x / rng.uniform(0.58, 0.78))
    fat, bone = rng.uniform(0.02, 0.07), rng.uniform(0.05, 0.13)
    thick = bone * (1.0 + 0.3 * _field(rng, 90.0))
    picture = np.full((SIZE, SIZE), -1000.0)
    _paint(picture, r < 1.0, -60.0, 60.0 * np.sign(_field(rng, 40.0)))
    depth = (1.0 - fat - r) / thick  # 0 at the outer table, 1 at the inner one
    compact = rng.uniform(700.0, 1700.0)
    _paint(picture, (depth > 0.0), compact, 80.0 * _field(rng, 8.0))
    diploe = (depth > 0.3) & (depth < 0.7)
    _paint(picture, diploe, rng.uniform(0.3, 0.8) * compact, 150.0 * _field(rng, 6.0))
    _brain(picture, depth, y, x, rng)
    if rng.random() < 0.45:
        _skull_base(picture, depth > 0.5, y, x, rng)
    if rng.random() < 0.6:
        rest = np.hypot(y - 0.1, x)
        at = rng.uniform(0.88, 1.0)
        _paint(picture, (np.abs(rest - at) < 0.02) & (y > 0.3) & (r > 1.02), -300.0)
    return picture


def _brain(picture: Array, depth: Array, y: Array, x: Array, rng: Rng) -> None:
    inside = depth > 1.0
    white = rng.uniform(22.0, 32.0)
    _paint(picture, inside, white, 1.5 * _field(rng, 60.0))
    folds = _field(rng, rng.uniform(14.0, 30.0))
    rim = depth < rng.uniform(2.5, 5.0)
    grey = inside & ((np.abs(folds) < 0.5) & rim | (_field(rng, 50.0) > 1.6))
    _paint(picture, grey, white + rng.uniform(5.0, 12.0))
    sulci = inside & rim & (np.abs(folds) < rng.uniform(0.02, 0.25))
    _paint(picture, sulci, rng.uniform(4.0, 14.0))
    size, apart = rng.uniform(0.03, 0.14), rng.uniform(0.05, 0.16)
    ventricle = np.hypot((np.abs(x) - apart - 0.3 * np.abs(y)) / size, y / (2.5 * size))
    _paint(picture, inside & (ventricle < 1.0), rng.uniform(3.0, 14.0))
    _paint(picture, inside & (np.abs(x) < rng.uniform(0.004, 0.012)), rng.uniform(45, 75))
    if rng.random() < 0.3:  # a bleeding, a tumour, or an old infarct
        spot = np.hypot(y - rng.uniform(-0.4, 0.4), x - rng.uniform(-0.4, 0.4))
        _paint(picture, inside & (spot < rng.uniform(0.03, 0.15)), rng.uniform(5, 85))


def _skull_base(picture: Array, inside: NDArray[np.bool_], y: Array, x: Array, rng: Rng) -> None:
    """Petrous bone, air cells, orbits: where heads cast streaks and little is even."""
    mirrored = [field + field[:, ::-1] for field in (_field(rng, 45.0), _field(rng, 25.0))]
    part = inside & (y * rng.choice([-1.0, 1.0]) > rng.uniform(-0.3, 0.2))
    _paint(picture, part & (mirrored[0] > 1.2), 900.0, 350.0 * _field(rng, 6.0))
    _paint(picture, part & (mirrored[1] > 1.7), -950.0)
    orbit = np.hypot(y + 0.45, np.abs(x) - 0.3)
    if rng.random() < 0.5:
        _paint(picture, inside & (orbit < 0.2), -90.0)
        _paint(picture, inside & (orbit < 0.12), 15.0)
        _paint(picture, inside & (np.abs(orbit - 0.12) < 0.01), 60.0)


def _trunk(rng: Rng) -> Array:
    """Fat, muscle, spine and ribs; lungs and heart, or organs and bowel; a table."""
    y, x = _frame(rng)
    r = np.hypot(y / rng.uniform(0.5, 0.72), x / rng.uniform(0.75, 0.95))
    fat, wall = rng.uniform(0.03, 0.2), rng.uniform(0.05, 0.12)
    picture = np.full((SIZE, SIZE), -1000.0)
    _paint(picture, r < 1.0, -105.0, 6.0 * _field(rng, 20.0))
    _paint(picture, r < 1.0 - fat, 55.0, 20.0 * _field(rng, 12.0))
    inside = r < 1.0 - fat - wall
    contrast = rng.choice([0.0, 80.0, 200.0])
    (_chest if rng.random() < 0.5 else _abdomen)(picture, inside, contrast, y, x, rng)
    turn = np.sin(rng.integers(8, 16) * np.arctan2(y, x) + 3.0 * r + rng.uniform(0, 6))
    ribs = (np.abs(r - 1.0 + fat + wall / 2.0) < wall / 4.0) & (turn > rng.uniform(-0.2, 0.6))
    _paint(picture, ribs, 600.0, 150.0 * _field(rng, 6.0))
    body = np.hypot(y - 0.32, x)
    _paint(picture, body < 0.13, 700.0)
    _paint(picture, body < 0.115, rng.uniform(120.0, 320.0), 50.0 * _field(rng, 5.0))
    _paint(picture, np.hypot(y - 0.5, x) < 0.05, 25.0)
    table = (np.abs(y - rng.uniform(0.78, 0.85) - 0.1 * x**2) < 0.012) & (r > 1.02)
    _paint(picture, table, -200.0)
    return picture


def _chest(
    picture: Array, inside: NDArray[np.bool_], contrast: float, y: Array, x: Array, rng: Rng
) -> None:
    _paint(picture, inside, -80.0, 10.0 * _field(rng, 20.0))
    lungs = inside & (np.abs(x) > 0.15 + 0.06 * _field(rng, 60.0))
    _paint(picture, lungs, rng.uniform(-900.0, -780.0), 35.0 * _field(rng, 50.0))
    for pixels, width in ((60.0, 0.06), (30.0, 0.05), (16.0, 0.04)):
        ridges = np.abs(_field(rng, pixels)) < width
        vessels = lungs & ridges & (_field(rng, 2.0 * pixels) > 0.3)
        _paint(picture, vessels, 20.0 + 0.3 * contrast)
    heart = np.hypot((y + 0.1) / 0.27, (x - rng.uniform(0.0, 0.2)) / 0.32)
    _paint(picture, inside & (heart < 1.0), 45.0, 6.0 * _field(rng, 30.0))
    _paint(picture, inside & (heart < 0.7), 45.0 + contrast)
    _paint(picture, np.hypot(y - 0.16, x - 0.14) < 0.06, 45.0 + contrast)


def _abdomen(
    picture: Array, inside: NDArray[np.bool_], contrast: float, y: Array, x: Array, rng: Rng
) -> None:
    _paint(picture, inside, -100.0, 8.0 * _field(rng, 20.0))
    bowel = _field(rng, 30.0)
    _paint(picture, inside & (bowel > 0.2), 35.0, 12.0 * _field(rng, 10.0))
    _paint(picture, inside & (bowel > 1.6), rng.choice([-850.0, 10.0, 250.0]))
    liver = np.hypot((y + 0.05) / 0.36, (x + 0.4) / 0.38) + 0.1 * _field(rng, 90.0)
    _paint(picture, inside & (liver < 1.0), rng.uniform(40.0, 110.0), 2.0 * _field(rng, 40.0))
    vessels = inside & (liver < 0.9) & (np.abs(_field(rng, 45.0)) < 0.06)
    _paint(picture, vessels, 50.0 + 0.6 * contrast)
    for side, radius in ((-0.3, 0.09), (0.3, 0.09), (0.55, 0.12)):  # kidneys and spleen
        organ = np.hypot(y - rng.uniform(0.05, 0.3), (x - side) * rng.uniform(0.8, 1.3))
        _paint(picture, inside & (organ < radius), 40.0 + contrast, 5.0 * _field(rng, 12.0))
    _paint(picture, np.hypot(y - 0.15, x - 0.05) < 0.05, 45.0 + contrast)
