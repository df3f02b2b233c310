"""The whole run: closed loops, open loops at rates from their peak, study, soak, report."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from engine import Engine, IqaError

from ..harness import bundles, machine, output
from ..harness.schema import Machine, Memory
from ..harness.slices import example_slices
from ..harness.timing import StopRule
from . import show, whole
from .load import Callers, Slice, closed, opened
from .report import Load, ThroughputReport, Whole

Found = TypeVar("Found")

SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 2.0)
"""Rates of the open loop as shares of the closed loop's peak."""


def run(args: argparse.Namespace) -> int:
    """See `__main__`; the exit code.

    Raises:
        IqaError: nothing can be measured: no such bundle, precision or device.
    """
    bundles.check_precision(args.bundle, args.precision)
    facts = Machine.model_validate(machine.describe())
    rule = StopRule(warmup=args.warmup, iterations=args.requests, seconds=args.seconds)
    slices = example_slices()
    print(output.machine_line(facts))
    with (
        machine.VramPeak() as vram,
        Engine.load(
            args.bundle,
            device=args.device,
            threads=args.threads,
            max_batch=args.batch,
            queue=args.queue,
        ) as engine,
    ):
        found = _Findings()
        found.measure(engine, slices, rule, args)
        bundle, held = bundles.facts(engine.bundle), engine.memory()
    report = ThroughputReport(
        machine=facts,
        bundle=bundle,
        device=args.device,
        threads=args.threads,
        complete=not found.failures,
        failures=found.failures,
        publishable=rule.publishable,
        max_batch=args.batch,
        queue=args.queue,
        timeout=args.timeout,
        seed=args.seed,
        bound_ms=args.bound_ms,
        best_within_bound=found.best(),
        loads=found.loads,
        study=found.wholes.get("study"),
        soak=found.wholes.get("soak"),
        memory=Memory(peak_rss_mb=machine.peak_rss_mb(), peak_vram_mb=vram.mb, buffers_bytes=held),
    )
    show.tables(report)
    if args.plot:
        show.plot(report, args.plot)
    output.finish(report, args.json)
    return 0 if report.complete else 1


class _Findings:
    """What was measured so far; a part that fails is said, and the others go on."""

    def __init__(self) -> None:
        self.loads: dict[str, Load] = {}
        self.wholes: dict[str, Whole] = {}
        self.failures: list[str] = []

    def best(self) -> float | None:
        """Most slices a second of an open loop within the bound."""
        within = (load for load in self.loads.values() if load.loop == "open" and load.within_bound)
        return max((load.slices_per_second for load in within), default=None)

    def measure(
        self, engine: Engine, slices: list[Slice], rule: StopRule, args: argparse.Namespace
    ) -> None:
        """All parts that `args` asks for."""
        with output.progress("throughput") as bar:
            for name, work in self._loads(engine, slices, rule, args):
                bar.update(bar.task_ids[0], description=name)
                if (load := self._try(name, work)) is not None:
                    self.loads[name] = load
                    if load.failed:
                        self.failures.append(f"{name}: {load.failed} slices failed")
            for name, long in _wholes(engine, slices, args):
                bar.update(bar.task_ids[0], description=name)
                if (ended := self._try(name, long)) is not None:
                    self.wholes[name] = ended
                    if ended.failed:
                        self.failures.append(f"{name}: {ended.failed} slices failed")

    def _loads(
        self, engine: Engine, slices: list[Slice], rule: StopRule, args: argparse.Namespace
    ) -> Iterator[tuple[str, Callable[[], Load]]]:
        """Loads by name; the open loop's rates wait for the closed loop's peak."""
        bound = args.bound_ms / 1000.0
        for clients in args.clients if "closed" in args.part else ():
            callers = Callers(engine, slices, bound)
            yield f"closed {clients} clients", partial(closed, callers, clients, rule)
        for rate in self._rates(args) if "open" in args.part else ():
            callers = Callers(engine, slices, bound, timeout=args.timeout)
            yield f"open {rate:g}/s", partial(opened, callers, rate, rule, args.seed)

    def _rates(self, args: argparse.Namespace) -> list[float]:
        if args.rates:
            return list(args.rates)
        peak = max((load.slices_per_second for load in self.loads.values()), default=0.0)
        if not peak:
            self.failures.append("open: no rates, because no closed loop was measured")
            return []
        return [float(f"{share * peak:.3g}") for share in SHARES]

    def _try(self, name: str, work: Callable[[], Found]) -> Found | None:
        try:
            return work()
        except IqaError as error:
            self.failures.append(f"{name}: {type(error).__name__}: {error}")
        except KeyboardInterrupt:
            self.failures.append(f"{name}: interrupted")
        return None


def _wholes(
    engine: Engine, slices: list[Slice], args: argparse.Namespace
) -> Iterator[tuple[str, Callable[[], Whole]]]:
    if "study" in args.part:
        with tempfile.TemporaryDirectory() as folder:
            whole.make_study(Path(folder), args.study_slices)
            yield "study", partial(whole.study, engine, Path(folder))
    if "soak" in args.part:
        yield "soak", partial(whole.soak, engine, slices, args.soak_slices)
