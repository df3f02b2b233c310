"""Load the contestants, check their tokens, and time them in turns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from engine.bundle.manifest import Manifest

from .contestants import Contestant
from .process import Answer, PeerError, Worker
from .workplace import Unavailable, Workplace, WorkplaceError


@dataclass(slots=True)
class Outcome:
    """What became of a contestant.

    Attributes:
        contestant: who.
        not_run: why it could not take part (no GPU, no weights); empty: it did.
        failed: its error; empty: none.
        versions: of the packages that did the work.
        load_seconds: from its start to being ready.
        answers: batch size -> one answer a round, warm-up excluded.
    """

    contestant: Contestant
    not_run: str = ""
    failed: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    load_seconds: float = 0.0
    answers: dict[int, list[Answer]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long to measure.

    Attributes:
        batches: batch sizes.
        iterations: least rounds of each batch size, in the same order.
        seconds: least seconds of each batch size.
        warmup: rounds before, not counted.
        threads: of every contestant.
        slices: how many there are; batches take them in turn.
    """

    batches: tuple[int, ...]
    iterations: tuple[int, ...]
    seconds: float
    warmup: int
    threads: int
    slices: int

    def rows(self, batch: int, turn: int) -> list[int]:
        """The slices of one round, the same for every contestant."""
        return [(turn * batch + i) % self.slices for i in range(batch)]


def measure(
    contestants: Sequence[Contestant],
    place: Workplace,
    manifest: Manifest,
    pixels: Path,
    plan: Plan,
) -> list[Outcome]:
    """Run all contestants in turns; one that fails is left out of what follows."""
    outcomes = [Outcome(contestant) for contestant in contestants]
    with ExitStack() as stack, _progress() as bar:
        workers: dict[str, Worker] = {}
        task = bar.add_task("load", total=len(outcomes))
        for outcome in outcomes:
            bar.update(task, description=f"load {outcome.contestant.name}")
            if worker := _load(outcome, place, manifest, pixels, plan):
                workers[outcome.contestant.name] = stack.enter_context(worker)
            bar.advance(task)
        for batch, rounds in zip(plan.batches, plan.iterations, strict=True):
            task = bar.add_task(f"batch {batch}", total=plan.warmup + rounds)
            for turn in _turns(plan, rounds):
                _round(outcomes, workers, plan, batch, turn)
                bar.advance(task)
    return outcomes


def _load(
    outcome: Outcome, place: Workplace, manifest: Manifest, pixels: Path, plan: Plan
) -> Worker | None:
    contestant = outcome.contestant
    try:
        setup = place.setup(contestant, manifest, pixels, plan.threads, max(plan.batches))
        python = place.interpreter(contestant.environment)
        worker = Worker(contestant.kind, setup, python=python, log=place.log(contestant))
    except Unavailable as error:
        outcome.not_run = str(error)
        return None
    except (PeerError, WorkplaceError) as error:
        outcome.failed = str(error)
        return None
    outcome.versions, outcome.load_seconds = worker.versions, worker.load_seconds
    return worker


def _turns(plan: Plan, rounds: int) -> Iterator[int]:
    """Round numbers; negative ones are warm-up. At least `rounds` and `seconds` are counted."""
    yield from range(-plan.warmup, 0)
    begin, turn = time.perf_counter(), 0
    while turn < rounds or time.perf_counter() - begin < plan.seconds:
        yield turn
        turn += 1


def _round(
    outcomes: Sequence[Outcome], workers: dict[str, Worker], plan: Plan, batch: int, turn: int
) -> None:
    """Every contestant captions the same slices once; who begins changes from round to round."""
    first = turn % len(outcomes)
    for outcome in (*outcomes[first:], *outcomes[:first]):
        worker = workers.get(outcome.contestant.name)
        if worker is None:
            continue
        try:
            answer = worker.run(plan.rows(batch, turn))
        except PeerError as error:
            outcome.failed = str(error)
            del workers[outcome.contestant.name]
            continue
        if turn >= 0:
            outcome.answers.setdefault(batch, []).append(answer)


@contextmanager
def _progress() -> Iterator[Progress]:
    """On stderr, so that stdout ends with the result."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar
