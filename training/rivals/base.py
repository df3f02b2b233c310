"""What every rival is: slices in, scores of the five attributes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import IqaError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One slice to judge.

    Attributes:
        name: what a cache or a message calls it, e.g. its file.
        hu: (H, W) float32 Hounsfield units.
        clean: the same slice before it was degraded, where that is known; (H, W) HU.
    """

    name: str
    hu: NDArray[np.float32]
    clean: NDArray[np.float32] | None = None


class Rival(Protocol):
    """Judges slices.

    Attributes:
        name: as tables show it.
        on_scale: the scores are on the scale 0…4. Otherwise only their order means something, and
            whoever compares them fits a line on validation patients first.
    """

    name: str
    on_scale: bool

    def scores(self, cases: Sequence[Case]) -> Array:
        """(N, A) in the order of `engine.template.ATTRIBUTES`; NaN where it has no opinion."""
        ...


class RivalError(IqaError):
    """A rival cannot do what was asked."""


class WeightsMissingError(RivalError, FileNotFoundError):
    """A checkpoint or pretrained weights are not in the folder named."""


class ConsentMissingError(RivalError, PermissionError):
    """Pixels would leave this machine, and nobody said that they may."""
