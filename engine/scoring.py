"""Level probabilities -> calibrated continuous score and confidence."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .assessment import Score
from .template import LEVELS, MAX_SCORE


def level_probabilities(logprobs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax over the five level words.

    Args:
        logprobs: (..., 5) log-probabilities of the level words within the whole vocabulary.

    Returns:
        (..., 5) float64; each last axis sums to 1.
    """
    shifted = logprobs.astype(np.float64) - logprobs.max(axis=-1, keepdims=True)
    weights = np.exp(shifted)
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True), np.float64)


def score(probabilities: NDArray[np.float64], *, slope: float, intercept: float) -> Score:
    """One attribute's score from the probabilities of its level words.

    Args:
        probabilities: (5,) summing to 1, bad … excellent.
        slope: calibration on held-out data, per expected level.
        intercept: calibration on held-out data, in score units.

    Returns:
        The score clipped to 0 … 4, the most probable level, and as confidence one minus the
        entropy as a fraction of its maximum.
    """
    expected = float(probabilities @ np.arange(len(LEVELS)))
    nonzero = probabilities[probabilities > 0.0]
    entropy = -float((nonzero * np.log(nonzero)).sum())
    return Score(
        value=min(max(intercept + slope * expected, 0.0), MAX_SCORE),
        level=LEVELS[int(probabilities.argmax())],
        confidence=min(max(1.0 - entropy / math.log(len(LEVELS)), 0.0), 1.0),
        probabilities=tuple(probabilities.tolist()),
    )
