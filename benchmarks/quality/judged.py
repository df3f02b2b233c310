"""What the engine says of slices, through its public API, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine import Assessment, Engine, InputError
from engine.template import ATTRIBUTES, LEVELS

Slice = NDArray[np.generic]
TOGETHER = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Assessments of N slices; rows of NaN where the engine refused the slice.

    Attributes:
        scores, confidence: (N, A).
        probabilities: (N, A, 5) of the levels.
        captions: N texts, empty where refused.
        errors: N names of error classes, empty where assessed.
    """

    scores: NDArray[np.float64]
    confidence: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    captions: list[str]
    errors: list[str]

    @property
    def assessed(self) -> NDArray[np.bool_]:
        """(N,) whether the slice was assessed."""
        return np.asarray(np.isfinite(self.scores).all(1))

    @property
    def sureness(self) -> NDArray[np.float64]:
        """(N,) mean confidence over the attributes; 0 where the slice was refused."""
        return np.where(self.assessed, np.nan_to_num(self.confidence).mean(1), 0.0)


def assess(engine: Engine, slices: Iterable[Slice], count: int, what: str) -> Judged:
    """Run all slices through the engine; `count` and `what` are for the progress bar."""
    results: list[Assessment | InputError] = []
    for some in _chunks(tqdm(slices, total=count, desc=what, unit="slice")):
        results += engine.assess(some)
    return Judged(
        scores=np.array([_of(item, "value") for item in results]),
        confidence=np.array([_of(item, "confidence") for item in results]),
        probabilities=np.array([_probabilities(item) for item in results]),
        captions=[item.caption if isinstance(item, Assessment) else "" for item in results],
        errors=["" if isinstance(item, Assessment) else type(item).__name__ for item in results],
    )


def _chunks(slices: Iterable[Slice]) -> Iterator[list[Slice]]:
    some: list[Slice] = []
    for item in slices:
        some.append(item)
        if len(some) == TOGETHER:
            yield some
            some = []
    if some:
        yield some


def _of(item: Assessment | InputError, field: str) -> list[float]:
    if isinstance(item, InputError):
        return [float("nan")] * len(ATTRIBUTES)
    return [float(getattr(item.scores[name], field)) for name in ATTRIBUTES]


def _probabilities(item: Assessment | InputError) -> list[tuple[float, ...]]:
    if isinstance(item, InputError):
        return [(float("nan"),) * len(LEVELS)] * len(ATTRIBUTES)
    return [item.scores[name].probabilities for name in ATTRIBUTES]
