"""Robustness: slices turned, of other views, matrices and kernels; rising damage; what is no CT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from engine import Engine
from engine.prepare import AIR_HU
from engine.template import ATTRIBUTES
from training.data.degrade import Degradation, Degrader
from training.data.geometry import VIEWS
from training.rivals.judge import untouched

from .judged import Judged, assess
from .measures import plcc, srocc

Hu = NDArray[np.float32]

KEPT = 0.95
"""Share of test slices that the confidence threshold for "no CT" lets through."""

SERIES: Final[dict[str, tuple[str, list[Degradation], list[float]]]] = {
    "dose": (
        "noise",
        [Degradation(dose=d) for d in (0.64, 0.32, 0.16, 0.08, 0.04, 0.02)],
        [0.64, 0.32, 0.16, 0.08, 0.04, 0.02],
    ),
    "views": (
        "artifacts",
        [Degradation(views=VIEWS // k) for k in (1, 2, 3, 4, 5, 6, 8)],
        [VIEWS // k for k in (1, 2, 3, 4, 5, 6, 8)],
    ),
    "blur": (
        "sharpness",
        [Degradation(blur_px=b) for b in (0.0, 0.6, 1.2, 1.8, 2.4, 3.0)],
        [0.0, 0.6, 1.2, 1.8, 2.4, 3.0],
    ),
}
"""Series -> the attribute that must follow it, the degradations from mild to strong, strengths."""


def series(engine: Engine, originals: Sequence[tuple[Hu, float]]) -> dict[str, dict[str, Any]]:
    """Scores along rising damage of untouched slices that were never trained on.

    Args:
        engine: judges.
        originals: (512, 512) HU and pixel spacing in mm.

    Returns:
        For every series: strengths, the scores (originals x strengths) of its attribute, and
        Spearman's correlation of score with (falling) strength per original: mean, least, share of
        originals with 0.95 or more.
    """
    found = {}
    for name, (attribute, steps, strengths) in SERIES.items():
        place = ATTRIBUTES.index(attribute)
        images = _degraded(originals, steps)
        judged = assess(engine, images, len(originals) * len(steps), f"{name} series")
        scores = judged.scores[:, place].reshape(len(originals), len(steps))
        falling = -np.arange(len(steps), dtype=float)
        ranks = [np.nan_to_num(srocc(line, falling)) for line in scores]
        found[name] = {
            "attribute": attribute,
            "strengths": strengths,
            "scores": scores.tolist(),
            "srocc_mean": float(np.mean(ranks)),
            "srocc_least": float(np.min(ranks)),
            "share_above_0.95": float(np.mean(np.array(ranks) >= 0.95 - 1e-9)),
        }
    return found


def _degraded(originals: Sequence[tuple[Hu, float]], steps: Sequence[Degradation]) -> Iterator[Hu]:
    for hu, spacing in originals:
        degrader = Degrader(hu, spacing)
        for step in steps:
            yield degrader.apply(step, np.random.default_rng(5)).image


def moved(
    engine: Engine,
    slices: Sequence[Hu],
    upright: Judged,
    threshold: float,
) -> dict[str, dict[str, float]]:
    """What each of `CHANGES` does to the scores of the same slices, see `unsure_below`."""
    return {
        name: _shift(assess(engine, map(change, slices), len(slices), name), upright, threshold)
        for name, change in CHANGES.items()
    }


def unsure_below(inside: Judged) -> float:
    """The confidence that `KEPT` of the test slices pass: the rest is flagged."""
    return float(np.quantile(inside.sureness, 1.0 - KEPT))


def _shift(judged: Judged, upright: Judged, threshold: float) -> dict[str, float]:
    """How far scores moved, whether their order stayed, and whether the engine is still sure."""
    both = judged.assessed & upright.assessed
    moved = np.abs(judged.scores[both] - upright.scores[both])
    overall = ATTRIBUTES.index("overall")
    return {
        "n": float(both.sum()),
        "moved_mean": float(moved.mean()),
        "moved_p95": float(np.percentile(moved, 95)),
        "overall_moved_mean": float(moved[:, overall].mean()),
        "overall_plcc": plcc(judged.scores[both, overall], upright.scores[both, overall]),
        "flagged": float(np.mean(judged.sureness < threshold)),
    }


def _resized(hu: Hu, side: int) -> Hu:
    image = Image.fromarray(np.ascontiguousarray(hu))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC), np.float32)


def _wider(hu: Hu) -> Hu:
    """A field of view a quarter wider: air around, the same matrix."""
    margin = hu.shape[0] // 8
    return _resized(np.pad(hu, margin, constant_values=AIR_HU), hu.shape[0])


def _narrower(hu: Hu) -> Hu:
    """The middle four fifths, on the same matrix."""
    margin = hu.shape[0] // 10
    return _resized(hu[margin:-margin, margin:-margin], hu.shape[0])


def _sharper(hu: Hu) -> Hu:
    """Up to 80 % more of what a Gaussian of 0.7 px takes away."""
    return hu + np.float32(0.8) * (hu - ndimage.gaussian_filter(hu, 0.7))


CHANGES: Final[dict[str, Callable[[Hu], Hu]]] = {
    "turned 90": lambda hu: np.rot90(hu, 1).copy(),
    "turned 180": lambda hu: np.rot90(hu, 2).copy(),
    "turned 270": lambda hu: np.rot90(hu, 3).copy(),
    "mirrored": lambda hu: np.fliplr(hu).copy(),
    "flipped": lambda hu: np.flipud(hu).copy(),
    "transposed": lambda hu: hu.T.copy(),
    "anti-transposed": lambda hu: np.rot90(hu.T, 2).copy(),
    "field of view 125 %": _wider,
    "field of view 80 %": _narrower,
    "matrix 1024": lambda hu: _resized(hu, 1024),
    "matrix 256": lambda hu: _resized(hu, 256),
    "sharper kernel": _sharper,
    "softer kernel": lambda hu: ndimage.gaussian_filter(hu, 0.5),
}
"""What another scan of the same patient could do to a slice and hardly to its quality."""


def outsiders(
    engine: Engine, slices: Sequence[Hu], patients: Sequence[str], inside: Judged
) -> dict[str, Any]:
    """What is no axial CT slice of a body: refused with an error, or flagged by low confidence.

    `flagged` counts errors and confidences that are `unsure_below`; `auroc` is how well confidence
    alone (an error counts as 0) tells them from test slices.
    """
    sure, threshold = inside.sureness, unsure_below(inside)
    found: dict[str, Any] = {"threshold": threshold, "inside_confidence": float(sure.mean())}
    for name, images in _outsiders(slices, patients).items():
        judged = assess(engine, images, len(images), name)
        labels = np.r_[np.ones(len(sure)), np.zeros(len(images))]
        found[name] = {
            "n": len(images),
            "errors": float(np.mean(~judged.assessed)),
            "confidence": float(judged.sureness[judged.assessed].mean())
            if judged.assessed.any()
            else None,
            "flagged": float(np.mean(judged.sureness < threshold)),
            "auroc": float(roc_auc_score(labels, np.r_[sure, judged.sureness])),
        }
    return found


def _outsiders(slices: Sequence[Hu], patients: Sequence[str]) -> dict[str, list[Hu]]:
    """Kind -> slices of it, made from the test slices or from nothing."""
    rng = np.random.default_rng(11)
    side = np.mgrid[-1:1:512j, -1:1:512j]
    radius = np.hypot(*side)
    return {
        "noise": [
            rng.normal(-300.0, 300.0, (512, 512)).astype(np.float32) for _ in range(len(slices))
        ],
        "picture (0 to 255)": [np.clip((hu + 160.0) / 400.0, 0, 1) * 255.0 for hu in slices],
        "MR-like": [_mr_like(hu) for hu in slices],
        "MR-like, as if HU": [_mr_like(hu) - 1024.0 for hu in slices],
        "localizer-like": _localizers(slices, patients),
        "crop of 96 pixels": [hu[208:304, 208:304] for hu in slices],
        "shuffled blocks": [_shuffled(hu, rng) for hu in slices],
        "water phantom": [
            np.where(radius < 0.3 + 0.02 * i, 0.0, -1000.0).astype(np.float32)
            + rng.normal(0, 5.0 + i, (512, 512)).astype(np.float32)
            for i in range(min(24, len(slices)))
        ],
        "coordinate ramp": [(side[0] * 400.0 * (1 + i / 8)).astype(np.float32) for i in range(8)],
    }


def _mr_like(hu: Hu) -> Hu:
    """Magnitudes: air dark, fat bright, bone dark, a smooth coil shade, Rician noise."""
    rng = np.random.default_rng(3)
    fat = np.exp(-(((hu + 100.0) / 60.0) ** 2))
    tissue = np.exp(-(((hu - 50.0) / 80.0) ** 2))
    shade = np.linspace(0.6, 1.3, hu.shape[1])
    signal = (900.0 * fat + 450.0 * tissue) * shade
    parts = rng.normal(0, 15.0, (2, *hu.shape))
    return np.hypot(signal + parts[0], parts[1]).astype(np.float32)


def _localizers(slices: Sequence[Hu], patients: Sequence[str]) -> list[Hu]:
    """Frontal projections of each patient's slices, stretched to a square: a scout view."""
    found = []
    for patient in dict.fromkeys(patients):
        own = [hu for hu, name in zip(slices, patients, strict=True) if name == patient]
        lines = np.stack([(hu + 1000.0).clip(0).mean(0) for hu in own])
        zoom = (512 / len(lines), 512 / lines.shape[1])
        stretched = ndimage.zoom(lines, zoom, order=1)
        scaled = stretched / max(float(stretched.max()), 1.0) * 1500.0 - 1000.0
        found.append(scaled.astype(np.float32))
    return found


def _shuffled(hu: Hu, rng: np.random.Generator) -> Hu:
    """Blocks of 64 pixels in random order."""
    blocks = hu.reshape(8, 64, 8, 64).swapaxes(1, 2).reshape(64, 64, 64)
    mixed = blocks[rng.permutation(64)].reshape(8, 8, 64, 64).swapaxes(1, 2)
    return np.ascontiguousarray(mixed.reshape(hu.shape))


def originals_of(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Untouched test slices, one or a few of each patient, `count` in all."""
    found = rows[untouched(rows) & (rows["split"] == "test")]
    turn = found.groupby("patient").cumcount()
    return found.assign(turn=turn).sort_values("turn", kind="stable").head(count)
