"""Load the contestants, check their tokens, and time them in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from engine.bundle.manifest import Manifest

from ..harness.timing import StopRule, alternate
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
    """What is measured, and how long.

    Attributes:
        rules: batch size -> when its measurement is long enough.
        threads: of every contestant.
        slices: how many there are; batches take them in turn.
    """

    rules: dict[int, StopRule]
    threads: int
    slices: int

    def rows(self, batch: int, number: int) -> list[int]:
        """The slices of one round, the same for every contestant."""
        return [(number * batch + i) % self.slices for i in range(batch)]


def measure(
    contestants: Sequence[Contestant],
    place: Workplace,
    manifest: Manifest,
    pixels: Path,
    plan: Plan,
) -> list[Outcome]:
    """Run all contestants in turns; one that fails is left out."""
    outcomes = [Outcome(contestant) for contestant in contestants]
    with ExitStack() as stack, _progress() as bar:
        workers: dict[str, Worker] = {}
        task = bar.add_task("load", total=len(outcomes))
        for outcome in outcomes:
            bar.update(task, description=f"load {outcome.contestant.name}")
            if worker := _load(outcome, place, manifest, pixels, plan):
                workers[outcome.contestant.name] = stack.enter_context(worker)
            bar.advance(task)
        for batch, rule in plan.rules.items():
            task = bar.add_task(f"batch {batch}", total=rule.iterations)
            _batch(outcomes, workers, plan, batch, partial(_done, bar, task))
    return outcomes


def _done(bar: Progress, task: TaskID, rounds: int) -> None:
    bar.update(task, completed=rounds)


def _batch(
    outcomes: Sequence[Outcome],
    workers: dict[str, Worker],
    plan: Plan,
    batch: int,
    finished: Callable[[int], object],
) -> None:
    """One batch size; a contestant's failure ends its part, not the others'."""
    runs = {
        outcome.contestant.name: _runner(outcome, workers[outcome.contestant.name], plan, batch)
        for outcome in outcomes
        if outcome.contestant.name in workers and not outcome.failed
    }
    timed = alternate(runs, plan.rules[batch], finished=finished) if runs else {}
    for outcome in outcomes:
        if outcome.contestant.name in timed and not outcome.failed:
            answers = timed[outcome.contestant.name].results
            outcome.answers[batch] = [answer for answer in answers if answer is not None]


def _runner(
    outcome: Outcome, worker: Worker, plan: Plan, batch: int
) -> Callable[[int], Answer | None]:
    """The worker's run of a round; None once it has failed."""

    def run(number: int) -> Answer | None:
        if outcome.failed:
            return None
        try:
            return worker.run(plan.rows(batch, number))
        except PeerError as error:
            outcome.failed = str(error)
            return None

    return run


def _load(
    outcome: Outcome, place: Workplace, manifest: Manifest, pixels: Path, plan: Plan
) -> Worker | None:
    contestant = outcome.contestant
    try:
        setup = place.setup(contestant, manifest, pixels, plan.threads, max(plan.rules))
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


@contextmanager
def _progress() -> Iterator[Progress]:
    """On stderr, so that stdout ends with the result."""
    with Progress(console=Console(stderr=True), transient=True) as bar:
        yield bar
