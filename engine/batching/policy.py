"""When a batch takes another slice and when it goes: pure, the clock is handed in.

A batch keeps filling as long as the encoder works on the one before, so it closes as late as it
can. Once the encoder is free it waits for company only where company is likely: where the batch
before was shared by several callers. A caller who is alone is never kept waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """What to do next with the batch that is being filled."""

    TAKE = "take"
    GO = "go"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What the policy looks at.

    Attributes:
        filled: slices that the batch holds.
        waiting: slices in the queue.
        encoder_free: no other batch is in the encoder.
        shared: the batch before held slices of several callers, so more are likely to come.
        oldest: when the batch's first slice arrived, in seconds of the clock; unused if empty.
        now: the clock, in seconds.
    """

    filled: int
    waiting: int
    encoder_free: bool
    shared: bool
    oldest: float
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`max_batch` slices at most; `max_wait` seconds at most for company."""

    max_batch: int
    max_wait: float

    def step(self, seen: Situation) -> tuple[Step, float | None]:
        """The next step; with WAIT, the seconds after which to ask again (None: when woken)."""
        if seen.waiting and seen.filled < self.max_batch:
            return Step.TAKE, None
        if not seen.filled or not seen.encoder_free:
            return Step.WAIT, None
        left = seen.oldest + self.max_wait - seen.now
        if seen.filled == self.max_batch or not seen.shared or left <= 0.0:
            return Step.GO, None
        return Step.WAIT, left
