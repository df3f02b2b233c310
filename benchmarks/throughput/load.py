"""Closed and open loops of callers through `Engine.assess_async`."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine import Assessment, DeadlineError, Engine, IqaError, QueueFullError

from ..harness.schema import Distribution
from ..harness.stats import interval_ranks
from ..harness.timing import StopRule
from .report import Load

Slice = NDArray[np.float32]


@dataclass(slots=True)
class Callers:
    """Sends slices and keeps what became of them.

    Attributes:
        timeout: seconds after it was due that a slice's caller waits; None: for ever.
        bound: seconds within which a result is good.
    """

    engine: Engine
    slices: Sequence[Slice]
    bound: float
    timeout: float | None = None
    sent: int = 0
    queue_full: int = 0
    deadline: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)

    async def send(self, due: float) -> None:
        """One slice that was due at `due` (of `time.perf_counter`)."""
        hu = self.slices[self.sent % len(self.slices)]
        self.sent += 1
        left = None
        if self.timeout is not None:
            left = max(0.0, due + self.timeout - time.perf_counter())
        try:
            found = await self.engine.assess_async(hu, timeout=left)
        except QueueFullError:
            self.queue_full += 1
        except DeadlineError:
            self.deadline += 1
        except IqaError:
            self.failed += 1
        else:
            self.latencies.append(time.perf_counter() - due)
            if isinstance(found, Assessment):
                self.queued.append(found.timings.queue)

    def load(
        self, seconds: float, batches: dict[str, int], *, clients: int | None, offered: float | None
    ) -> Load:
        """The figures."""
        latency = Distribution.of_seconds(self.latencies) if self.latencies else None
        good = sum(value <= self.bound for value in self.latencies)
        return Load(
            loop="open" if clients is None else "closed",
            clients=clients,
            offered=offered,
            seconds=seconds,
            sent=self.sent,
            answered=len(self.latencies),
            queue_full=self.queue_full,
            deadline=self.deadline,
            failed=self.failed,
            slices_per_second=len(self.latencies) / seconds,
            goodput=good / seconds,
            latency=latency,
            queue=Distribution.of_seconds(self.queued) if self.queued else None,
            batches=batches,
            within_bound=interval_ranks(self.sent, 99) is not None and good >= 0.99 * self.sent,
        )


def closed(callers: Callers, clients: int, rule: StopRule) -> Load:
    """Clients that each send the next slice when the last is answered."""
    return asyncio.run(_closed(callers, clients, rule))


def opened(callers: Callers, rate: float, rule: StopRule, seed: int) -> Load:
    """Poisson arrivals at `rate` slices a second, sent when due, however many are waiting."""
    return asyncio.run(_opened(callers, rate, rule, seed))


async def _closed(callers: Callers, clients: int, rule: StopRule) -> Load:
    await _warm(callers, rule)
    before, begin = _batches(callers.engine), time.perf_counter()

    async def client() -> None:
        while not rule.met(callers.sent, time.perf_counter() - begin):
            await callers.send(time.perf_counter())

    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - begin
    ran = _difference(_batches(callers.engine), before)
    return callers.load(seconds, ran, clients=clients, offered=None)


async def _opened(callers: Callers, rate: float, rule: StopRule, seed: int) -> Load:
    await _warm(callers, rule)
    gaps = random.Random(seed)  # noqa: S311 (no secret)
    before, begin = _batches(callers.engine), time.perf_counter()
    due, tasks = begin, set[asyncio.Task[None]]()
    while not rule.met(len(tasks), time.perf_counter() - begin):
        due += gaps.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.add(asyncio.create_task(callers.send(due)))
    await asyncio.gather(*tasks)
    seconds = time.perf_counter() - begin
    ran = _difference(_batches(callers.engine), before)
    return callers.load(seconds, ran, clients=None, offered=rate)


async def _warm(callers: Callers, rule: StopRule) -> None:
    for number in range(rule.warmup):
        await callers.engine.assess_async(callers.slices[number % len(callers.slices)])


def _batches(engine: Engine) -> dict[str, int]:
    sizes = engine.stats().batch_size
    return {f"{bound:g}": n for bound, n in zip(sizes.bounds, sizes.counts, strict=False)}


def _difference(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {size: count - before[size] for size, count in after.items() if count > before[size]}
