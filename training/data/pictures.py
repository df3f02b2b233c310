"""Pictures of a data set for people: a contact sheet, and a histogram of every score."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from engine.template import ATTRIBUTES, MAX_SCORE

mpl.use("Agg")
from matplotlib import pyplot as plt


def contact_sheet(data: Path, manifest: pd.DataFrame, out: Path, *, columns: int = 6) -> None:
    """Slices from the worst to the best overall score, soft-tissue window, scores below each."""
    ranked = manifest.sort_values("overall", kind="stable")
    picks = ranked.iloc[np.linspace(0, len(ranked) - 1, columns * 4).round().astype(int)]
    figure, axes = plt.subplots(4, columns, figsize=(columns * 2.4, 11), layout="constrained")
    for axis, (_, row) in zip(axes.flat, picks.iterrows(), strict=True):
        axis.imshow(
            np.load(data / row["file"], allow_pickle=False), cmap="gray", vmin=-160, vmax=240
        )
        axis.set_axis_off()
        others = " ".join(f"{name[0]}{row[name]:.1f}" for name in ATTRIBUTES[:-1])
        axis.set_title(f"overall {row['overall']:.1f}\n{others}", fontsize=8)
    figure.suptitle("n noise, s sharpness, a artifacts, l low contrast; simulated readers, 0…4")
    figure.savefig(out, dpi=90)
    plt.close(figure)


def histograms(manifest: pd.DataFrame, out: Path) -> None:
    """One histogram per attribute."""
    figure, axes = plt.subplots(
        1, len(ATTRIBUTES), figsize=(14, 2.6), sharey=True, layout="constrained"
    )
    for axis, name in zip(axes, ATTRIBUTES, strict=True):
        axis.hist(manifest[name], bins=np.linspace(0, MAX_SCORE, 21))
        axis.set_title(f"{name.replace('_', ' ')}, mean {manifest[name].mean():.2f}", fontsize=9)
        axis.set_xlabel("score")
    figure.savefig(out, dpi=90)
    plt.close(figure)
