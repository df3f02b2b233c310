"""A head that guesses a caption's levels from the encoder's tokens, for sources without one.

It is fitted in closed form on captions that the exported graphs themselves wrote: ridge regression
from mean and deviation of a slice's encoder tokens to the log-probabilities that the captioner gave
to the level words at each slot, relative to the likeliest. Those say how near the other levels
were, so a few dozen slices suffice where a captioner names many levels; of one that names few, only
which one it was matters, so the log-probabilities are cut off where guesses come out best on slices
left out. The ridge is the one of least leave-one-out error. A wrong guess costs a decoder pass and
never changes a caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from torch import Tensor, nn
from tqdm import tqdm

from engine.decoding.verify import drafted
from engine.template import LEVELS, Template

from .runtime import BATCH, opened
from .sources.base import Source

_FLOORS: Final = (-14.0, -0.5)
"""Of log-probabilities, to choose from: that a level is out of the question is all that lower ones
say."""
_CHOOSING: Final = 50
"""Fewer slices do not tell which floor is better; the first is taken."""
_RIDGES: Final = np.logspace(-7, 0, 22)
"""As shares of the features' sum of squares."""


class DraftHead(nn.Module):
    """features (B, S, width) -> likeliest level at each slot of the caption, (B, slots) int64."""

    def __init__(self, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """weight (slots * levels, 2 * width) and bias (slots * levels,)."""
        super().__init__()
        self.linear = nn.Linear(weight.shape[1], weight.shape[0])
        self.linear.load_state_dict(
            {"weight": torch.from_numpy(weight).float(), "bias": torch.from_numpy(bias).float()}
        )

    def forward(self, features: Tensor) -> Tensor:
        scores = self.linear(_moments(features))
        return scores.unflatten(-1, (-1, len(LEVELS))).argmax(-1)


def _moments(features: Tensor) -> Tensor:
    """Tokens (B, S, width) -> their mean and standard deviation, (B, 2 * width)."""
    mean = features.mean(1)
    return torch.cat([mean, (features - mean[:, None]).square().mean(1).sqrt()], 1)


def fit(
    source: Source, folder: Path, slices: Sequence[NDArray[np.float32]], template: Template
) -> DraftHead | None:
    """Fit a head on the captions of some slices.

    Args:
        source: without a guess of its own.
        folder: holds its FP32 graphs.
        slices: (C, size, size) float32 each.
        template: what the captions follow.

    Returns:
        The head; None if fewer than two captions name every level.

    Raises:
        BackendError: a graph failed.
    """
    count = len(template.clauses)
    features: list[NDArray[np.float32]] = []
    levels: list[NDArray[np.float32]] = []
    with opened(source, folder, template=template) as runtime:
        for first in tqdm(range(0, len(slices), BATCH), desc="draft head", unit="batch"):
            pixels = np.stack(slices[first : first + BATCH])
            decoder = runtime.graphs.encode(pixels)
            rows = drafted(decoder, runtime.drafter, runtime.rules)
            decoder.release()
            for row, moments in zip(rows, _seen(source, pixels), strict=True):
                slots = [i for i, token in enumerate(row.tokens) if token in runtime.rules.levels]
                if len(slots) >= count:
                    features.append(moments)
                    levels.append(row.level_logprobs[slots[:count]])
    return _ridge(np.stack(features), np.stack(levels)) if len(features) > 1 else None


@torch.no_grad()
def _seen(source: Source, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the head sees of each slice, (B, 2 * width)."""
    found: NDArray[np.float32] = _moments(source.vision(torch.from_numpy(pixels))).numpy()
    return found


def _ridge(features: NDArray[np.float32], levels: NDArray[np.float32]) -> DraftHead:
    """features (N, 2 * width), log-probabilities of levels (N, slots, levels)."""
    x, below = features.astype(np.float64), levels - levels.max(-1, keepdims=True)
    spread = float(((x - x.mean(0)) ** 2).sum())
    model = RidgeCV(alphas=_RIDGES * spread + np.finfo(np.float64).tiny)
    folds = KFold(5, shuffle=True, random_state=0)

    def targets(floor: float) -> NDArray[np.float32]:
        return np.maximum(below, floor).reshape(len(x), -1)

    def hits(floor: float) -> float:
        """Share of captions, left out of the fit, whose levels are all guessed right."""
        guessed = cross_val_predict(model, x, targets(floor), cv=folds).reshape(below.shape)
        return float((guessed.argmax(-1) == below.argmax(-1)).all(1).mean())

    floor = max(_FLOORS, key=hits) if len(x) >= _CHOOSING else _FLOORS[0]
    found = model.fit(x, targets(floor))
    return DraftHead(found.coef_, found.intercept_)
