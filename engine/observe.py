"""Counters and histograms of an engine: what happened, how long it took, how full batches were."""

from __future__ import annotations

import bisect
import dataclasses
import threading
from dataclasses import dataclass
from typing import Any, Final, Literal

Outcome = Literal["assessed", "invalid", "failed", "cancelled", "expired"]
"""How a slice ended: with an assessment; an `InputError`; another error; given up by its caller
before it ran; past its deadline."""

Stage = Literal["queue", "prepare", "encode", "first_token", "decode", "report"]

OUTCOMES: Final[tuple[Outcome, ...]] = ("assessed", "invalid", "failed", "cancelled", "expired")
STAGES: Final[tuple[Stage, ...]] = (
    "queue",
    "prepare",
    "encode",
    "first_token",
    "decode",
    "report",
)
SECONDS: Final = tuple(
    base * scale for scale in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0) for base in (1.0, 2.5, 5.0)
)
"""Upper bounds of the stage histograms, 0.1 ms … 50 s."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values fell where.

    Attributes:
        bounds: upper bounds, included, rising.
        counts: values up to each bound and above the one before; the last: above all bounds.
        total: sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """Their mean; 0 without any."""
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """What an engine did since it was loaded.

    Every accepted slice ends once: `accepted` is the sum of the five outcomes and `under_way`.

    Attributes:
        accepted: slices that got a place in the queue.
        assessed, invalid, failed, cancelled, expired: how they ended, see `Outcome`.
        refused: slices that got no place: the queue was full (`QueueFullError`), or those before
            them left no hope of a result in time (`DeadlineError`).
        waiting: slices in the queue now.
        decoder_passes, draft_accepted: sums over all captions.
        batch_size: slices of each batch that ran.
        queue, prepare: seconds a slice waited, and took to prepare.
        encode, first_token, decode, report: seconds a batch took.
    """

    accepted: int
    assessed: int
    invalid: int
    failed: int
    cancelled: int
    expired: int
    refused: int
    waiting: int
    decoder_passes: int
    draft_accepted: int
    batch_size: Histogram
    queue: Histogram
    prepare: Histogram
    encode: Histogram
    first_token: Histogram
    decode: Histogram
    report: Histogram

    @property
    def under_way(self) -> int:
        """Slices that wait or are worked on."""
        ended = self.assessed + self.invalid + self.failed + self.cancelled + self.expired
        return self.accepted - ended

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and numbers."""
        return dataclasses.asdict(self)


class _Tally:
    """A histogram that grows."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._total += value

    def snapshot(self) -> Histogram:
        return Histogram(self._bounds, tuple(self._counts), self._total)


class Meter:
    """Counts for one engine; every method may be called from any thread."""

    def __init__(self, max_batch: int) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(
            ("accepted", *OUTCOMES, "refused", "decoder_passes", "draft_accepted"), 0
        )
        self._seconds = {stage: _Tally(SECONDS) for stage in STAGES}
        self._sizes = _Tally(tuple(float(size) for size in range(1, max_batch + 1)))

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter of `EngineStats`."""
        with self._lock:
            self._counts[name] += number

    def time(self, stage: Stage, seconds: float) -> None:
        """Add to a stage's histogram."""
        with self._lock:
            self._seconds[stage].add(seconds)

    def batch(self, size: int) -> None:
        """Add a batch that ran."""
        with self._lock:
            self._sizes.add(size)

    def snapshot(self, waiting: int) -> EngineStats:
        """All figures at one moment."""
        with self._lock:
            figures: dict[str, Any] = dict(self._counts)
            figures |= {stage: tally.snapshot() for stage, tally in self._seconds.items()}
            figures["batch_size"] = self._sizes.snapshot()
        return EngineStats(waiting=waiting, **figures)
