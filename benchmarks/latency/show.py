"""A latency report as tables and as a plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ..harness import output
from .report import LatencyReport, Stages

COLUMNS = tuple(name for name in Stages.model_fields if name != "time_to_first_token")
BARS = ("prepare", "encode", "decode", "report")


def table(report: LatencyReport) -> None:
    """Queries with percentiles; stages by their medians."""
    console = Console(width=120)
    queries = Table(title="ms a query, end to end", title_justify="left")
    for column in ("scenario", "n", *output.PERCENTILES, "mean", "sd", "slices/s", "passes"):
        queries.add_column(column, justify="left" if column == "scenario" else "right")
    for column in ("accepted", "differ"):
        queries.add_column(column, justify="right")
    for name, found in report.results.items():
        queries.add_row(
            name,
            *output.cells(found.query),
            f"{found.query.mean:.4g}",
            f"{found.query.stdev:.3g}",
            f"{found.slices_per_second:.4g}",
            f"{found.decoder_passes:.2f}",
            f"{found.draft_accepted:.1f} of {found.tokens:.1f}",
            str(found.mismatches),
        )
    console.print(queries)
    console.print(_stages(report))
    memory = report.memory
    vram = "" if memory.peak_vram_mb is None else f", VRAM {memory.peak_vram_mb:.0f} MB"
    cold = report.first_assessment_s
    first = "" if cold is None else f"first assessment {cold:.2f} s after process start, "
    print(
        f"{report.bundle.name} {report.bundle.version}, {report.bundle.precision}, manifest "
        f"{report.bundle.sha256[:12]}, {report.device}; {first}peak RSS "
        f"{memory.peak_rss_mb:.0f} MB{vram}"
    )
    for caveat in output.caveats(report):
        print(caveat)


def _stages(report: LatencyReport) -> Table:
    made = Table(title="ms a slice by stage, p50 (mean where n is too small)", title_justify="left")
    made.add_column("scenario")
    for column in COLUMNS:
        made.add_column(column.replace("_", " "), justify="right")
    for name, found in report.results.items():
        parts = (getattr(found.stages, column) for column in COLUMNS)
        made.add_row(name, *(f"{output.typical(part):.3g}" for part in parts))
    return made


def plot(report: LatencyReport, path: Path) -> None:
    """Above: share of queries answered within a time. Below: stages of a slice."""
    names = list(report.results)
    with output.figure(path, rows=2, size=(9.0, 3.4 + 0.3 * len(names))) as axes:
        for name, found in report.results.items():
            values = np.sort(found.query.samples or [])
            share = np.arange(1, len(values) + 1) / len(values)
            axes[0, 0].step(values, share, where="post", label=f"{name}, n = {found.query.n}")
        for level in (0.5, 0.9, 0.99):
            axes[0, 0].axhline(level, color="0.85", lw=0.8, zorder=0)
        axes[0, 0].set(xscale="log", xlabel="ms a query", ylabel="share answered", ylim=(0, 1.02))
        axes[0, 0].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
        left = np.zeros(len(names))
        for stage in BARS:
            widths = [getattr(found.stages, stage).mean for found in report.results.values()]
            axes[1, 0].barh(range(len(names)), widths, left=left, label=stage)
            left += widths
        axes[1, 0].set_yticks(range(len(names)), names)
        axes[1, 0].invert_yaxis()
        axes[1, 0].set_xlabel("mean ms a slice (its share of a batch)")
        axes[1, 0].legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
        axes[0, 0].set_title(
            f"{report.bundle.name}, {report.bundle.precision}, {report.device}; "
            f"{report.machine.cpu}, {report.machine.cores} cores",
            fontsize=9,
        )
