"""How MLPerf's scenarios issue slices, and what is kept of the results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine import Assessment, Engine, IqaError

from ..harness.schema import Distribution
from ..harness.timing import StopRule, measure
from .report import Scenario, ScenarioName, Stages

Slice = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Load:
    """What the scenarios feed.

    Attributes:
        slices: taken in turn.
        captions: what each of them got when assessed alone.
        rule: when a scenario is long enough; it counts queries, and batches in Offline.
    """

    slices: Sequence[Slice]
    captions: Sequence[str]
    rule: StopRule

    def group(self, number: int, size: int) -> list[Slice]:
        """The slices of query `number`."""
        return [self.slices[(number * size + i) % len(self.slices)] for i in range(size)]


def streamed(engine: Engine, load: Load, name: ScenarioName, batch: int) -> Scenario:
    """SingleStream and MultiStream: the next query leaves when the last is answered.

    Raises:
        IqaError: a slice failed.
    """
    timed = measure(lambda number: _assess(engine, load.group(number, batch)), load.rule)
    results = [item for answered in timed.results for item in answered]
    return _scenario(name, batch, load, results, timed.seconds, load.rule.warmup * batch)


def offline(engine: Engine, load: Load, batch: int) -> Scenario:
    """Offline: all slices are there; the engine takes them as fast as it can.

    Raises:
        IqaError: a slice failed.
    """
    return asyncio.run(_offline(engine, load, batch))


async def _offline(engine: Engine, load: Load, batch: int) -> Scenario:
    rule = load.rule
    results: list[Assessment] = []
    batches: list[float] = []
    begin = last = time.perf_counter()
    place = 0
    source = engine.stream(_endless(load.slices))
    async for item in source:
        results.append(_sound(item))
        place += 1
        if place % batch:
            continue
        now = time.perf_counter()
        if place <= rule.warmup * batch:
            begin = last = now
            results.clear()
            continue
        batches.append(now - last)
        last = now
        if rule.met(len(batches), now - begin):
            break
    await source.aclose()
    return _scenario("Offline", batch, load, results, batches, rule.warmup * batch)


def _endless(slices: Sequence[Slice]) -> Iterator[Slice]:
    while True:
        yield from slices


def _assess(engine: Engine, group: list[Slice]) -> list[Assessment]:
    if len(group) == 1:
        return [_sound(engine.assess(group[0]))]
    return [_sound(item) for item in engine.assess(group)]


def _sound(item: object) -> Assessment:
    if isinstance(item, IqaError):
        raise item
    if not isinstance(item, Assessment):
        raise TypeError(f"expected an assessment; got {type(item).__name__}")
    return item


def _scenario(
    name: ScenarioName,
    batch: int,
    load: Load,
    results: list[Assessment],
    seconds: list[float],
    first: int,
) -> Scenario:
    """Figures; `first` is the place of the first counted slice among all that were sent."""
    expected = (load.captions[(first + i) % len(load.captions)] for i in range(len(results)))
    return Scenario(
        scenario=name,
        batch=batch,
        slices=len(results),
        query=Distribution.of_seconds(seconds),
        rate=Distribution.of_rates(_rates(seconds, batch)),
        slices_per_second=len(results) / sum(seconds),
        stages=_stages(results),
        decoder_passes=float(np.mean([r.decoder_passes for r in results])),
        draft_accepted=float(np.mean([r.draft_accepted for r in results])),
        tokens=float(np.mean([_tokens(r) for r in results])),
        mismatches=sum(r.caption != text for r, text in zip(results, expected, strict=True)),
    )


def _rates(seconds: Sequence[float], batch: int) -> list[float]:
    parts = np.array_split(np.asarray(seconds), min(10, len(seconds)))
    return [batch * len(part) / float(part.sum()) for part in parts]


def _tokens(result: Assessment) -> int:
    """Every decoder pass settles the drafted tokens it accepts, and one of its own."""
    return result.decoder_passes + result.draft_accepted


def _stages(results: Sequence[Assessment]) -> Stages:
    times = [r.timings for r in results]
    of = Distribution.of_seconds
    return Stages(
        queue=of([t.queue for t in times]),
        prepare=of([t.prepare for t in times]),
        encode=of([t.encode for t in times]),
        first_token=of([t.first_token for t in times]),
        per_token=of([r.timings.decode / _tokens(r) for r in results]),
        decode=of([t.decode for t in times]),
        report=of([t.report for t in times]),
        time_to_first_token=of([t.queue + t.prepare + t.encode + t.first_token for t in times]),
    )
