"""A throughput report as tables and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..harness import output
from ..harness.schema import Distribution
from .report import Load, ThroughputReport


def tables(report: ThroughputReport) -> None:
    """Loads, whole runs, and what a reader must know."""
    console = Console(width=130)
    if report.loads:
        console.print(_loads(report))
    for name, found in (("study", report.study), ("soak", report.soak)):
        if found is not None:
            print(
                f"{name}: {found.slices} slices in {found.seconds:.2f} s "
                f"({found.slices_per_second:.1f}/s), first after {found.first_result_s:.2f} s, "
                f"listed in {found.list_s:.2f} s, decoded in {found.decode_s:.2f} s, "
                f"memory grew by {found.growth_mb:.1f} MB"
            )
    best = report.best_within_bound
    shown = "no open loop" if best is None else f"{best:.1f} slices/s"
    print(f"most with p99 <= {report.bound_ms:g} ms, shed slices counted as late: {shown}")
    for caveat in output.caveats(report):
        print(caveat)


def _loads(report: ThroughputReport) -> Table:
    made = Table(
        title=f"ms a slice from due to result; goodput within {report.bound_ms:g} ms; shed: queue "
        "full, deadline; wasted: ran for nobody",
        title_justify="left",
    )
    made.add_column("load")
    numbers = ("queue", "slices/s", "goodput", "full", "deadline", "wasted", "batch")
    for column in ("n", *output.PERCENTILES, *numbers):
        made.add_column(column, justify="right")
    made.add_column("within")
    for name, load in report.loads.items():
        made.add_row(
            name,
            *(output.cells(load.latency) if load.latency else ["0", *"----"]),
            f"{output.typical(load.queue):.3g}" if load.queue else "-",
            f"{load.slices_per_second:.4g}",
            f"{load.goodput:.4g}",
            str(load.queue_full),
            str(load.deadline),
            str(_ran(load) - load.answered),
            f"{_mean_batch(load):.2f}",
            "yes" if load.within_bound else "no",
        )
    return made


def _ran(load: Load) -> int:
    return sum(int(size) * n for size, n in load.batches.items())


def _mean_batch(load: Load) -> float:
    return _ran(load) / max(sum(load.batches.values()), 1)


def plot(report: ThroughputReport, path: Path) -> None:
    """Latency against load; goodput; batch sizes; memory."""
    with output.figure(path, rows=2, columns=2, size=(10.5, 7.0)) as axes:
        _latency(axes[0, 0], report)
        _goodput(axes[0, 1], report)
        _batches(axes[1, 0], report)
        _memory(axes[1, 1], report)


def _latency(axis: Any, report: ThroughputReport) -> None:
    for loop, style in (("open", "o-"), ("closed", "s--")):
        loads = [load for load in report.loads.values() if load.loop == loop and load.latency]
        rates = [load.offered or load.slices_per_second for load in loads]
        for index, name in enumerate(("p50", "p99")):
            values = [_percentile(load.latency, name) for load in loads]
            axis.plot(rates, values, style, color=f"C{index}", label=f"{loop} loop, {name}", ms=4)
    axis.axhline(report.bound_ms, color="0.6", lw=1, ls=":", label="bound")
    axis.set(xlabel="slices/s offered (closed: answered)", ylabel="ms to result", yscale="log")
    axis.legend(fontsize=7)
    axis.set_title(f"{report.bundle.name}, {report.bundle.precision}, {report.device}", fontsize=9)


def _percentile(found: Distribution | None, name: str) -> float:
    """NaN, which is not drawn, where n does not support it."""
    return found.percentiles[name].value if found and name in found.percentiles else float("nan")


def _goodput(axis: Any, report: ThroughputReport) -> None:
    loads = [load for load in report.loads.values() if load.offered]
    offered = [load.offered for load in loads]
    axis.plot(offered, offered, color="0.8", lw=1, label="offered")
    axis.plot(offered, [load.slices_per_second for load in loads], "o-", ms=4, label="answered")
    axis.plot(offered, [load.goodput for load in loads], "o-", ms=4, label="within bound")
    shed = [(load.queue_full + load.deadline) / load.seconds for load in loads]
    axis.plot(offered, shed, "x-", ms=4, label="shed")
    axis.set(xlabel="slices/s offered", ylabel="slices/s")
    axis.legend(fontsize=7)


def _batches(axis: Any, report: ThroughputReport) -> None:
    """Share of the slices that ran in batches of each size."""
    names = list(report.loads)
    left = np.zeros(len(names))
    for size in range(1, report.max_batch + 1):
        counts = [size * load.batches.get(str(size), 0) for load in report.loads.values()]
        totals = [_ran(load) for load in report.loads.values()]
        share = np.array(counts) / np.maximum(totals, 1)
        shade = str(0.9 - 0.8 * size / report.max_batch)
        axis.barh(range(len(names)), share, left=left, color=shade, label=str(size))
        left += share
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlabel("share of slices, by the size of their batch (1 light)")


def _memory(axis: Any, report: ThroughputReport) -> None:
    top = 1.0
    for name, found in (("study", report.study), ("soak", report.soak)):
        if found is not None:
            held = [point.rss_mb for point in found.memory]
            axis.plot([point.slices for point in found.memory], held, label=name)
            axis.legend(fontsize=7)
            top = max(top, *held)
    axis.set(xlabel="slices done", ylabel="resident MB", ylim=(0, 1.1 * top))
