"""Scatter plots with the identity line, monotonicity curves, reliability of the confidence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from engine.template import ATTRIBUTES, MAX_SCORE

from .measures import Array

mpl.use("Agg")
from matplotlib import pyplot as plt

_SIZE = 2.7
"""Inches of one panel."""


def scatter(said: Array, truth: Array, out: Path) -> None:
    """One panel per attribute: the engine's score over the readers' mean; (N, A) each."""
    figure, axes = plt.subplots(
        1,
        len(ATTRIBUTES),
        figsize=(_SIZE * len(ATTRIBUTES), _SIZE + 0.8),
        sharey=True,
        layout="constrained",
    )
    for a, (axis, name) in enumerate(zip(axes, ATTRIBUTES, strict=True)):
        axis.plot([0, MAX_SCORE], [0, MAX_SCORE], color="grey", linewidth=0.8)
        axis.scatter(truth[:, a], said[:, a], s=5, alpha=0.4, linewidths=0)
        axis.set(title=name.replace("_", " "), xlabel="readers", aspect="equal")
    axes[0].set_ylabel("engine")
    _save(figure, out)


def curves(series: dict[str, dict[str, Any]], out: Path) -> None:
    """One panel per series: the score of every original, and their mean, along rising damage."""
    figure, axes = plt.subplots(
        1, len(series), figsize=(3.4 * len(series), 3.0), sharey=True, layout="constrained"
    )
    for axis, (name, found) in zip(axes, series.items(), strict=True):
        scores = np.array(found["scores"], float)
        places = range(len(found["strengths"]))
        axis.plot(places, scores.T, color="C0", alpha=0.35, linewidth=0.8)
        axis.plot(places, np.nanmean(scores, axis=0), color="C1", linewidth=2)
        axis.set_xticks(places, [f"{strength:g}" for strength in found["strengths"]], fontsize=7)
        axis.set(title=f"{name}: {found['attribute']}", xlabel=_UNITS[name], ylim=(-0.1, 4.1))
    axes[0].set_ylabel("score")
    _save(figure, out)


_UNITS = {"dose": "dose fraction", "views": "views", "blur": "blur, pixels"}


def reliability(found: dict[str, Any], out: Path) -> None:
    """Mean absolute error and level accuracy over confidence, ten shares of the assessments."""
    figure, axis = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
    sure = [share["confidence"] for share in found["bins"]]
    axis.plot(sure, [share["mae"] for share in found["bins"]], "o-", label="mean absolute error")
    axis.plot(
        sure, [share["level_accuracy"] for share in found["bins"]], "s--", label="level accuracy"
    )
    axis.set(xlabel="confidence", ylim=(0, 1.05))
    axis.legend(fontsize=8)
    _save(figure, out)


def _save(figure: Any, out: Path) -> None:
    figure.savefig(out, dpi=90)
    plt.close(figure)
