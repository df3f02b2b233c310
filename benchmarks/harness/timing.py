"""Contestants timed in turn under one stop rule, so that none has the machine's better minutes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Result = TypeVar("Result")
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When a measurement is long enough: enough runs and enough seconds, warm-up not counted.

    Attributes:
        warmup: runs before the first that counts.
        iterations: least runs that count.
        seconds: least time that counts.
    """

    warmup: int = 10
    iterations: int = 30
    seconds: float = 10.0

    @property
    def publishable(self) -> bool:
        """Whether it asks for no less than the defaults; less is for smoke tests."""
        least = StopRule()
        return (
            self.warmup >= least.warmup
            and self.iterations >= least.iterations
            and self.seconds >= least.seconds
        )

    def met(self, iterations: int, seconds: float) -> bool:
        """Whether so many counted runs in so many seconds suffice."""
        return iterations >= self.iterations and seconds >= self.seconds


@dataclass(slots=True)
class Timed(Generic[Result]):
    """One contestant's counted runs.

    Attributes:
        seconds: how long each run took.
        results: what each run returned.
    """

    seconds: list[float] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)


def alternate(
    contestants: Mapping[str, Callable[[int], Result]],
    rule: StopRule,
    *,
    clock: Clock = time.perf_counter,
    finished: Callable[[int], object] = lambda _: None,
) -> dict[str, Timed[Result]]:
    """Time contestants round by round; each round runs every one once, in a new random order.

    All have the same number of runs, and values of equal place are of the same round, so that
    `stats.ratio(..., paired=True)` applies. Rounds go on until there are `rule.iterations` of them
    and they took `rule.seconds` a contestant on average.

    Args:
        contestants: name -> work. Work is called with the number of the round, from 0 (warm-up
            included), and returns only when its result is in host memory: nothing is pending.
        rule: when to stop.
        clock: monotonic seconds.
        finished: called with the number of counted rounds after each of them, for progress.

    Raises:
        Whatever a contestant raises: then nothing of the measurement counts.
    """
    timed: dict[str, Timed[Result]] = {name: Timed() for name in contestants}
    order, shuffle = list(contestants), random.Random(0).shuffle  # noqa: S311 (no secret)
    for number in range(rule.warmup):
        for name in order:
            contestants[name](number)
    begin, counted = clock(), 0
    while not rule.met(counted, (clock() - begin) / max(len(order), 1)):
        shuffle(order)
        for name in order:
            start = clock()
            result = contestants[name](rule.warmup + counted)
            timed[name].seconds.append(clock() - start)
            timed[name].results.append(result)
        counted += 1
        finished(counted)
    return timed


def measure(
    work: Callable[[int], Result],
    rule: StopRule,
    *,
    clock: Clock = time.perf_counter,
    finished: Callable[[int], object] = lambda _: None,
) -> Timed[Result]:
    """`alternate` with one contestant."""
    return alternate({"": work}, rule, clock=clock, finished=finished)[""]
