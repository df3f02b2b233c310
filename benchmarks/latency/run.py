"""The whole run: ceiling, captions to compare with, scenarios, cold start, report."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from engine import Engine, IqaError
from engine.errors import OptionError

from ..harness import bundles, machine, output
from ..harness.schema import Machine, Memory
from ..harness.slices import example_slices
from ..harness.timing import StopRule
from . import show
from .report import LatencyReport, Scenario
from .scenarios import Load, Slice, offline, streamed

_COLD = """
import time; begin = time.perf_counter()
import sys; import numpy as np; from engine import Engine
with Engine.load(sys.argv[1] or None, device=sys.argv[2]) as engine:
    engine.assess(np.load(sys.argv[3]))
print(time.perf_counter() - begin)
"""


def run(args: argparse.Namespace) -> int:
    """See `__main__`; the exit code.

    Raises:
        IqaError: nothing can be measured: no such bundle, precision or device.
    """
    bundles.check_precision(args.bundle, args.precision)
    facts = Machine.model_validate(machine.describe())
    rule = StopRule(warmup=args.warmup, iterations=args.iterations, seconds=args.seconds)
    slices = example_slices()
    ceiling = machine.sgemm_gflops()
    print(f"{output.machine_line(facts)}\nceiling: {ceiling:.0f} GFLOP/s float32 matrix product")
    results: dict[str, Scenario] = {}
    failures: list[str] = []
    held: dict[str, int] = {}
    load = None
    with machine.VramPeak() as vram, output.progress("latency") as bar:
        for size, wanted in _plan(args).items():
            with Engine.load(
                args.bundle, device=args.device, threads=args.threads, max_batch=size
            ) as engine:
                load = load or Load(slices, _captions(engine, slices), rule)
                bundle, held = bundles.facts(engine.bundle), engine.memory()
                for name, work in wanted.items():
                    bar.update(bar.task_ids[0], description=name)
                    _try(results, failures, name, partial(work, engine, load))
    cold = _cold_start(args, slices[0], failures)
    report = LatencyReport(
        machine=facts,
        bundle=bundle,
        device=args.device,
        threads=args.threads,
        complete=not failures,
        failures=failures,
        publishable=rule.publishable,
        sgemm_gflops=ceiling,
        warmup=rule.warmup,
        iterations=rule.iterations,
        seconds=rule.seconds,
        first_assessment_s=cold,
        results=results,
        memory=Memory(peak_rss_mb=machine.peak_rss_mb(), peak_vram_mb=vram.mb, buffers_bytes=held),
    )
    show.table(report)
    if args.plot and results:
        show.plot(report, args.plot)
    output.finish(report, args.json)
    return 0 if report.complete else 1


Work = Callable[[Engine, Load], Scenario]


def _plan(args: argparse.Namespace) -> dict[int, dict[str, Work]]:
    """Largest batch of an engine -> the scenarios to run on it.

    Raises:
        OptionError: there are none.
    """
    plan: dict[int, dict[str, Work]] = {}
    if "single" in args.scenario:
        plan.setdefault(1, {})["SingleStream 1"] = partial(streamed, name="SingleStream", batch=1)
    for size in dict.fromkeys(args.batch):
        if "multi" in args.scenario and size > 1:
            work = partial(streamed, name="MultiStream", batch=size)
            plan.setdefault(size, {})[f"MultiStream {size}"] = work
        if "offline" in args.scenario:
            plan.setdefault(size, {})[f"Offline {size}"] = partial(offline, batch=size)
    if not plan:
        raise OptionError("MultiStream needs a --batch of 2 or more")
    return plan


def _captions(engine: Engine, slices: list[Slice]) -> list[str]:
    return [found.caption for hu in slices if not isinstance(found := engine.assess(hu), list)]


def _try(
    results: dict[str, Scenario], failures: list[str], name: str, work: Callable[[], Scenario]
) -> None:
    """Run one scenario; what failed or was interrupted is said, and the others go on."""
    try:
        results[name] = work()
    except IqaError as error:
        failures.append(f"{name}: {type(error).__name__}: {error}")
    except KeyboardInterrupt:
        failures.append(f"{name}: interrupted")


def _cold_start(
    args: argparse.Namespace, hu: Slice, failures: list[str], rounds: int = 3
) -> float | None:
    """Seconds from a fresh interpreter's start to its first assessment, median."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.npy"
        np.save(path, hu)
        command = [sys.executable, "-c", _COLD, args.bundle or "", args.device, str(path)]
        try:
            return median(
                float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(rounds)
            )
        except subprocess.CalledProcessError as error:
            failures.append(f"first assessment: {error.stderr.strip()[-200:]}")
            return None
