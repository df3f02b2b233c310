"""The same way out for every benchmark: a JSON file with all samples, one line on stdout, plots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from engine.whole_file import written_whole

from .schema import Distribution, Machine, Report

PERCENTILES = ("p50", "p90", "p95", "p99")


def finish(report: Report, file: Path | None) -> None:
    """Write the report with every sample to `file`, and without samples as one line to stdout."""
    if file is not None:
        with written_whole(file) as part:
            part.write_text(report.model_dump_json(indent=1) + "\n", "utf-8")
    print(_without_samples(report), flush=True)


def _without_samples(report: Report) -> str:
    data = report.model_dump(mode="json")
    _drop(data)
    return type(report).model_validate(data).model_dump_json()


def _drop(node: Any) -> None:
    if isinstance(node, dict):
        if "samples" in node:
            node["samples"] = None
        for child in node.values():
            _drop(child)
    elif isinstance(node, list):
        for child in node:
            _drop(child)


def cells(found: Distribution) -> list[str]:
    """n and the percentiles as table cells; "-" where n does not support one."""
    values = [found.percentiles.get(name) for name in PERCENTILES]
    return [str(found.n), *(f"{p.value:.4g}" if p else "-" for p in values)]


def machine_line(machine: Machine) -> str:
    """The machine in one line."""
    load = machine.load_average[0]
    parts = [f"{machine.cpu}, {machine.cores} cores", *machine.flags]
    parts += [f"{gpu.name}, driver {gpu.driver}, CUDA {gpu.cuda}" for gpu in machine.gpus]
    return f"{'; '.join(parts)}; load average {load:.2f}"


def caveats(report: Report) -> list[str]:
    """What a reader must know before believing the figures."""
    found = [f"INCOMPLETE: {failure}" for failure in report.failures]
    if not report.publishable:
        found.append("short run: fewer or shorter than the default rule, for smoke tests only")
    if report.machine.load_average[0] > 0.5:
        found.append(
            f"busy machine: load average {report.machine.load_average[0]:.2f} at the start"
        )
    return found


@contextmanager
def progress(what: str) -> Iterator[Progress]:
    """A transient bar on stderr, redrawn rarely so that it does not disturb what is timed."""
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as bar:
        bar.add_task(what, total=None)
        yield bar


@contextmanager
def figure(
    path: Path, *, rows: int = 1, columns: int = 1, size: tuple[float, float]
) -> Iterator[Any]:
    """Axes of a new figure, as a (rows, columns) array; saved as a picture at the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawn, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    try:
        yield axes
        drawn.savefig(path, dpi=110)
    finally:
        plt.close(drawn)


def typical(found: Distribution) -> float:
    """The median where n supports one, else the mean."""
    return found.percentiles["p50"].value if "p50" in found.percentiles else found.mean
