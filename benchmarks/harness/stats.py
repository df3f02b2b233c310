"""What a sample of timings supports, and no more.

A percentile is given only where the sample is large enough to contain it: where the distribution-
free 95 % interval from order statistics exists (David and Nagaraja, *Order Statistics*, 7.1). That
takes n >= 6 for p50, 29 for p90, 59 for p95, 299 for p99. The interval is given with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[..., Any]
"""A NumPy reduction such as `numpy.median`: called with `axis=-1`."""

PERCENTS = (50, 90, 95, 99)
RESAMPLES = 2000


def interval_ranks(n: int, percent: float, confidence: float = 0.95) -> tuple[int, int] | None:
    """Ranks (from 0) of the order statistics that enclose a percentile; None if n is too small.

    The number of values below the percentile is binomial(n, percent / 100).
    """
    share, tail = percent / 100.0, (1.0 - confidence) / 2.0
    # One tail alone decides where the other side cannot fail: p99 of 299, and no p1.
    if 1.0 - share**n - (1.0 - share) ** n < confidence:
        return None
    below = np.cumsum(_binomial(n, share))
    low = int(np.searchsorted(below, tail))
    high = int(np.searchsorted(below, 1.0 - tail))
    return max(low - 1, 0), min(high, n - 1)


def _binomial(n: int, share: float) -> Floats:
    """Probabilities of 0 … n successes."""
    k = np.arange(n + 1)
    log_factorial = np.cumsum(np.log(np.maximum(np.arange(n + 1), 1)))
    choose = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    return np.exp(choose + k * math.log(share) + (n - k) * math.log1p(-share))


def percentiles(values: Sequence[float] | Floats) -> dict[str, tuple[float, float, float]]:
    """ "p50" … "p99" -> value and 95 % interval (low, high), where n supports it."""
    ordered = np.sort(np.asarray(values, np.float64))
    found = {}
    for percent in PERCENTS:
        ranks = interval_ranks(len(ordered), percent)
        if ranks is not None:
            value = float(np.percentile(ordered, percent))
            found[f"p{percent}"] = (value, float(ordered[ranks[0]]), float(ordered[ranks[1]]))
    return found


def ratio(
    numerator: Sequence[float] | Floats,
    denominator: Sequence[float] | Floats,
    *,
    paired: bool = False,
    statistic: Statistic = np.median,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Ratio of two samples' statistics, with its bootstrap interval (low, high).

    Blocks of consecutive values are resampled, because timings come in good and bad spells.

    Args:
        paired: the samples were alternated: values of equal place are resampled together.
        statistic: what is compared.
        confidence: of the interval.

    Raises:
        ValueError: an empty sample, or paired samples of different length.
    """
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    if not len(top) or not len(bottom):
        raise ValueError("a ratio needs two samples; one is empty")
    if paired and len(top) != len(bottom):
        raise ValueError(f"paired samples have one length; got {len(top)} and {len(bottom)}")
    random = np.random.default_rng(seed)
    places = _blocks(random, len(top))
    others = places if paired else _blocks(random, len(bottom))
    drawn = statistic(top[places], axis=-1) / statistic(bottom[others], axis=-1)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(drawn, [tail, 100.0 - tail])
    return float(statistic(top, axis=-1) / statistic(bottom, axis=-1)), float(low), float(high)


def _blocks(random: np.random.Generator, n: int) -> NDArray[np.intp]:
    """(RESAMPLES, n) places, drawn as circular blocks of about the square root of n."""
    length = max(1, math.isqrt(n))
    starts = random.integers(0, n, size=(RESAMPLES, -(-n // length)))
    return ((starts[..., None] + np.arange(length)) % n).reshape(RESAMPLES, -1)[:, :n]


def summarise(seconds: Sequence[float]) -> dict[str, Any]:
    """n, mean, standard deviation and the supported percentiles, in milliseconds."""
    values = np.asarray(seconds, np.float64) * 1000.0
    return {
        "n": len(values),
        "mean_ms": float(values.mean()),
        "stdev_ms": deviation(values),
        **{f"{name}_ms": found[0] for name, found in percentiles(values).items()},
    }


def deviation(values: Floats) -> float:
    """Standard deviation of a sample; 0 for a single value."""
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
