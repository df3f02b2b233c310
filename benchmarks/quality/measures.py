"""Agreement measures: correlations, errors, levels, paired bootstrap by patient, calibration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from engine.template import ATTRIBUTES, LEVELS, level_of

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Figures = dict[str, float]

LEAST = 3
"""Slices below which a correlation is not worth printing."""
BINS = 10
_ROUNDING = 1e-9


def agree(said: Array, truth: Array) -> Figures:
    """Agreement on one attribute; (N,) each, NaN where nothing was said.

    Returns:
        n, plcc, srocc, krocc, rmse, mae, level_accuracy (rounded scores), kappa (quadratic
        weights). Correlations are NaN where one side is constant.
    """
    known = np.isfinite(said)
    said, truth = said[known], truth[known]
    if len(said) < LEAST:
        return {"n": float(len(said))}
    off = said - truth
    ours, theirs = _levels(said), _levels(truth)
    return {
        "n": float(len(said)),
        "plcc": plcc(said, truth),
        "srocc": srocc(said, truth),
        "krocc": krocc(said, truth),
        "rmse": float(np.sqrt(np.mean(off**2))),
        "mae": float(np.mean(np.abs(off))),
        "level_accuracy": float(np.mean(ours == theirs)),
        "kappa": _kappa(ours, theirs),
    }


def agree_all(said: Array, truth: Array) -> dict[str, Figures]:
    """`agree` for every attribute, (N, A) each, and their plain mean as "mean"."""
    found = {name: agree(said[:, a], truth[:, a]) for a, name in enumerate(ATTRIBUTES)}
    shared = set.intersection(*(set(figures) for figures in found.values()))
    found["mean"] = {
        key: float(np.mean([found[name][key] for name in ATTRIBUTES]))
        for key in found["overall"]
        if key in shared
    }
    return found


def plcc(a: Array, b: Array) -> float:
    """Pearson's correlation; NaN where one side is constant."""
    return float(np.corrcoef(a, b)[0, 1]) if _vary(a, b) else float("nan")


def srocc(a: Array, b: Array) -> float:
    """Spearman's correlation; NaN where one side is constant."""
    return plcc(stats.rankdata(a), stats.rankdata(b))


def krocc(a: Array, b: Array) -> float:
    """Kendall's correlation (tau-b); NaN where one side is constant."""
    return float(stats.kendalltau(a, b)[0]) if _vary(a, b) else float("nan")


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of bootstrap values; NaN without any."""
    finite = np.asarray(values)[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def intervals(said: Array, truth: Array, samples: Sequence[Rows]) -> dict[str, Figures]:
    """95 % intervals of PLCC and SROCC for every attribute, (N, A) each."""
    found = {}
    for a, name in enumerate(ATTRIBUTES):
        linear, ranked = _bootstrapped(said[:, a], truth[:, a], samples)
        bounds = interval(linear), interval(ranked)
        keys = ("plcc_low", "plcc_high", "srocc_low", "srocc_high")
        found[name] = dict(zip(keys, (*bounds[0], *bounds[1]), strict=True))
    return found


def paired(ours: Array, theirs: Array, truth: Array, samples: Sequence[Rows]) -> dict[str, Figures]:
    """How much better ours agrees than theirs, in the same bootstrap samples; (N, A) each.

    Returns:
        For every attribute the differences in PLCC and SROCC, ours minus theirs, with 95 %
        intervals; only slices count that both judged.
    """
    found: dict[str, Figures] = {}
    for a, name in enumerate(ATTRIBUTES):
        both = np.isfinite(ours[:, a]) & np.isfinite(theirs[:, a])
        if both.sum() < LEAST:
            continue
        kept = [rows[both[rows]] for rows in samples]
        mine = _bootstrapped(ours[:, a], truth[:, a], kept)
        other = _bootstrapped(theirs[:, a], truth[:, a], kept)
        whole = np.flatnonzero(both)
        figures: Figures = {"n": float(len(whole))}
        for key, measure, i in (("plcc", plcc, 0), ("srocc", srocc, 1)):
            gap = measure(ours[whole, a], truth[whole, a]) - measure(
                theirs[whole, a], truth[whole, a]
            )
            low, high = interval(list(np.subtract(mine[i], other[i])))
            figures |= {key: gap, f"{key}_low": low, f"{key}_high": high}
        found[name] = figures
    return found


def ceiling(readers: NDArray[np.float64]) -> dict[str, Figures]:
    """What one reader reaches: each against the mean of the others.

    Args:
        readers: (R, N, A) scores.

    Returns:
        For every attribute the mean over readers of PLCC and SROCC, and the best reader's.
    """
    found = {}
    for a, name in enumerate(ATTRIBUTES):
        pairs = [
            (readers[r, :, a], np.delete(readers, r, axis=0)[:, :, a].mean(0))
            for r in range(len(readers))
        ]
        linear, ranked = [plcc(*p) for p in pairs], [srocc(*p) for p in pairs]
        found[name] = {
            "plcc": float(np.mean(linear)),
            "plcc_best": float(np.max(linear)),
            "srocc": float(np.mean(ranked)),
            "srocc_best": float(np.max(ranked)),
        }
    return found


def reliability(
    said: Array, confidence: Array, probabilities: NDArray[np.float64], truth: Array
) -> dict[str, object]:
    """Whether a sure assessment is a right one; all attributes of all slices together.

    Args:
        said, confidence, truth: (N, A).
        probabilities: (N, A, 5) of the levels.

    Returns:
        `ece`: expected calibration error of the most probable level, in ten bins of equal width
        (Guo 2017). `srocc`: of confidence with absolute error (negative is good). `bins`: ten
        shares of equal size by confidence, each with its mean confidence, mean absolute error,
        level accuracy and top level's probability.
    """
    known = np.isfinite(said)
    sure, error = confidence[known], np.abs(said - truth)[known]
    top = probabilities[known].max(-1)
    right = probabilities[known].argmax(-1) == _levels(truth[known])
    edges = np.minimum((top * BINS).astype(int), BINS - 1)
    ece = sum(
        np.mean(edges == b) * abs(right[edges == b].mean() - top[edges == b].mean())
        for b in np.unique(edges)
    )
    shares = np.array_split(np.argsort(sure, kind="stable"), BINS)
    return {
        "ece": float(ece),
        "srocc": srocc(sure, error),
        "bins": [
            {
                "n": len(share),
                "confidence": float(sure[share].mean()),
                "mae": float(error[share].mean()),
                "level_accuracy": float(right[share].mean()),
                "top_probability": float(top[share].mean()),
            }
            for share in shares
            if len(share)
        ],
    }


def _bootstrapped(
    said: Array, truth: Array, samples: Sequence[Rows]
) -> tuple[list[float], list[float]]:
    known = np.isfinite(said)
    linear, ranked = [], []
    for drawn in samples:
        rows = drawn[known[drawn]]
        enough = len(rows) >= LEAST
        linear.append(plcc(said[rows], truth[rows]) if enough else float("nan"))
        ranked.append(srocc(said[rows], truth[rows]) if enough else float("nan"))
    return linear, ranked


def _vary(a: Array, b: Array) -> bool:
    """Whether both span more than rounding errors do."""
    return bool(min(np.ptp(a), np.ptp(b)) > _ROUNDING)


def _levels(scores: Array) -> NDArray[np.int64]:
    return np.array([level_of(float(score)) for score in scores])


def _kappa(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    if len(np.union1d(a, b)) < 2:
        return float("nan")
    return float(cohen_kappa_score(a, b, weights="quadratic", labels=list(range(len(LEVELS)))))
