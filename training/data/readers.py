"""Simulated readers: physics -> scores 0…4, with each reader's own bias, gain and spread.

They are not radiologists. Each reader turns the measurements into a perceived quality, adds an
opinion of their own and gives a whole number on the Likert scale; the score of a slice is the
mean over readers, as in LDCTIQAC 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engine.template import ATTRIBUTES, MAX_SCORE

from .measure import Measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One reader: how strict, how much differences count, how much the opinion wavers."""

    bias: float
    gain: float
    spread: float


READERS = (
    Reader(bias=0.15, gain=1.0, spread=0.25),
    Reader(bias=-0.2, gain=1.1, spread=0.25),
    Reader(bias=0.0, gain=0.9, spread=0.3),
    Reader(bias=0.25, gain=1.05, spread=0.35),
    Reader(bias=-0.2, gain=0.95, spread=0.3),
)

_WEIGHTS = {"noise": 0.3, "sharpness": 0.25, "artifacts": 0.25, "low_contrast": 0.2}
_OVERALL_GAIN, _OVERALL_MEAN = 1.45, 1.84
"""Set so that overall scores spread like the 1,000 human ones of LDCTIQAC 2023: mean 2.07, and
rounded 66, 262, 308, 246 and 118 times 0…4."""


def perceived(m: Measurements) -> dict[str, float]:
    """Perceived quality of every attribute before any reader's own opinion; not clipped.

    Perception is logarithmic (Weber-Fechner): each halving or doubling counts the same. Noise masks
    artifacts: what is just seen grows with its amplitude to the power of 0.6 (Legge and Foley, J
    Opt Soc Am 1980;70:1458).
    """
    noise = np.hypot(m.noise_hu, 2.0 * m.coarse_noise_hu) / 1.2
    mottle = np.hypot(noise, 0.25 * m.streak_hu)  # dense streaks read as grain, too
    just_seen = 3.0 * max(noise / 10.0, 1.0) ** 0.6
    quality: dict[str, float] = {
        "noise": 4.0 - 1.2 * np.log2(max(mottle, 1.0) / 8.0),
        "sharpness": 4.0 - 2.2 * np.log2(0.23 / m.mtf50),
        "artifacts": 4.2 - 0.9 * np.log2(1.0 + m.streak_hu / just_seen),
        "low_contrast": 2.0 + 1.5 * np.log2(max(m.detectability, 0.05) / 1.2),
    }
    seen = {name: float(np.clip(value, 0.0, MAX_SCORE)) for name, value in quality.items()}
    mean = sum(weight * seen[name] for name, weight in _WEIGHTS.items())
    limited = 0.5 * mean + 0.5 * min(seen.values())  # the worst attribute limits the reading
    return {**quality, "overall": 2.07 + _OVERALL_GAIN * (limited - _OVERALL_MEAN)}


def read(m: Measurements, rng: np.random.Generator) -> list[dict[str, int]]:
    """One whole-number score per attribute from every reader."""
    quality = perceived(m)
    return [
        {name: _opinion(reader, quality[name], rng) for name in ATTRIBUTES} for reader in READERS
    ]


def mean_scores(opinions: list[Mapping[str, int]] | list[dict[str, int]]) -> dict[str, float]:
    """Mean over readers, steps of 0.2 for five readers."""
    return {name: float(np.mean([o[name] for o in opinions])) for name in ATTRIBUTES}


def _opinion(reader: Reader, quality: float, rng: np.random.Generator) -> int:
    value = (
        2.0 + reader.gain * (quality - 2.0) + reader.bias + reader.spread * rng.standard_normal()
    )
    return int(np.clip(np.rint(value), 0, MAX_SCORE))
