"""How well a captioner agrees with the readers: predictions, correlations, bootstrap intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import Tensor

from engine.template import ATTRIBUTES, LEVELS, MAX_SCORE

from .samples import Vocabulary

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of predictions with reader scores for one attribute.

    Attributes:
        plcc, srocc, krocc: Pearson, Spearman and Kendall correlation.
        rmse: root mean square error on the 0…4 scale.
        plcc_low, plcc_high: 95 % bootstrap interval of PLCC, patients resampled.
    """

    plcc: float
    srocc: float
    krocc: float
    rmse: float
    plcc_low: float
    plcc_high: float


def written_levels(decode: Callable[[Tensor], Tensor], rows: int, vocabulary: Vocabulary) -> Tensor:
    """Expected level at every slot of greedy captions, (B, A).

    Greedy decoding is followed slot by slot: after each pass the level word the model prefers is
    written into the caption, so later attributes see the model's own words, as in the runtime.

    Args:
        decode: teacher-forced, (B, T) tokens -> (B, T, vocabulary) logits.
        rows: B.
        vocabulary: token ids.
    """
    grid = torch.arange(len(LEVELS), dtype=torch.float32)
    levels = np.full((rows, len(ATTRIBUTES)), 2)
    expected = torch.zeros(rows, len(ATTRIBUTES))
    for a in range(len(ATTRIBUTES)):
        lines = [
            vocabulary.tokens({n: int(v) for n, v in zip(ATTRIBUTES, row, strict=True)})
            for row in levels
        ]
        position = [vocabulary.slots(line)[a] - 1 for line in lines]
        logits = decode(_padded(lines))
        at = logits[torch.arange(rows), torch.tensor(position)]
        chosen = at[:, list(vocabulary.levels)].softmax(-1)
        levels[:, a] = chosen.argmax(-1).numpy()
        expected[:, a] = chosen @ grid
    return expected


def _padded(lines: list[list[int]]) -> Tensor:
    longest = max(map(len, lines))
    return torch.tensor([line + [0] * (longest - len(line)) for line in lines])


def agreement(
    predicted: Array, truth: Array, patients: NDArray[np.str_], *, seed: int = 0, rounds: int = 1000
) -> Agreement:
    """Correlations of one attribute with intervals; arrays are (N,).

    A correlation is 0 where one side is constant: it tells nothing.
    """
    rmse = float(np.sqrt(np.mean((predicted - truth) ** 2)))
    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return Agreement(plcc=0.0, srocc=0.0, krocc=0.0, rmse=rmse, plcc_low=0.0, plcc_high=0.0)
    low, high = bootstrap(predicted, truth, patients, seed=seed, rounds=rounds)
    return Agreement(
        plcc=float(stats.pearsonr(predicted, truth)[0]),
        srocc=float(stats.spearmanr(predicted, truth)[0]),
        krocc=float(stats.kendalltau(predicted, truth)[0]),
        rmse=rmse,
        plcc_low=low,
        plcc_high=high,
    )


def bootstrap(
    predicted: Array, truth: Array, patients: NDArray[np.str_], *, seed: int, rounds: int
) -> tuple[float, float]:
    """95 % interval of PLCC; whole patients are drawn, then slices within each."""
    values = [
        np.corrcoef(predicted[picks], truth[picks])[0, 1]
        for picks in resamples(patients, rounds, seed)
        if np.std(truth[picks]) > 0 and np.std(predicted[picks]) > 0
    ]
    return float(np.percentile(values, 2.5)), float(np.percentile(values, 97.5))


def resamples(patients: NDArray[np.str_], rounds: int, seed: int = 0) -> list[NDArray[np.intp]]:
    """Bootstrap samples of rows: whole patients are drawn, then slices within each."""
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(patients == name) for name in np.unique(patients)]
    return [
        np.concatenate(
            [rng.choice(rows[i], len(rows[i])) for i in rng.choice(len(rows), len(rows))]
        )
        for _ in range(rounds)
    ]


def calibrate(expected: Array, truth: Array) -> dict[str, dict[str, float]]:
    """Least-squares line from expected level to reader score, per attribute; arrays are (N, A).

    Both ends of the scale stay within it: a score that had to be clipped would hide an order.
    Level where the same was expected of every slice.
    """
    return _lines(expected, truth, _within_scale)


def onto_scale(found: Array, truth: Array) -> dict[str, dict[str, float]]:
    """Least-squares line from numbers on any scale to reader scores, as `calibrate` otherwise."""
    return _lines(found, truth, lambda x, y: np.polyfit(x, y, 1))


def _lines(
    found: Array, truth: Array, fit: Callable[[Array, Array], Iterable[float]]
) -> dict[str, dict[str, float]]:
    lines = {}
    for a, name in enumerate(ATTRIBUTES):
        x, y = found[:, a], truth[:, a]
        slope, intercept = fit(x, y) if np.ptp(x) > 0 else (0.0, y.mean())
        lines[name] = {"slope": float(slope), "intercept": float(intercept)}
    return lines


def _within_scale(x: Array, y: Array) -> tuple[float, float]:
    """Slope and intercept, by the scores at both ends of the scale."""
    share = x / MAX_SCORE
    ends = np.stack([1.0 - share, share], 1)
    low, high = optimize.lsq_linear(ends, y, (0.0, MAX_SCORE)).x
    return (high - low) / MAX_SCORE, low


def apply_calibration(predicted: Array, lines: Mapping[str, Mapping[str, float]]) -> Array:
    """Scores as the runtime gives them, clipped to 0…4."""
    slope = np.array([lines[name]["slope"] for name in ATTRIBUTES])
    intercept = np.array([lines[name]["intercept"] for name in ATTRIBUTES])
    return np.asarray(np.clip(predicted * slope + intercept, 0.0, MAX_SCORE))


def table(results: Mapping[str, Agreement]) -> str:
    """The agreement table in Markdown."""
    lines = ["| attribute | PLCC (95 % interval) | SROCC | KROCC | RMSE |", "|---|---|---|---|---|"]
    for name, a in results.items():
        lines.append(
            f"| {name.replace('_', ' ')} | {a.plcc:.3f} ({a.plcc_low:.3f}–{a.plcc_high:.3f}) "
            f"| {a.srocc:.3f} | {a.krocc:.3f} | {a.rmse:.2f} |"
        )
    return "\n".join(lines)
