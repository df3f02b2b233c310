"""A run's figures as tables and as a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(report: dict[str, Any]) -> None:
    """Times, speed-ups and mismatches by batch size; who did not run; targets."""
    console = Console(width=140)
    for part in report["results"]:
        console.print(_times(part))
    for name, row in report["contestants"].items():
        if row["not_run"]:
            console.print(f"{name}: not run: {row['not_run']}", highlight=False)
        elif row["failed"]:
            console.print(f"{name}: FAILED: {row['failed']}", highlight=False, markup=False)
    if report["targets"]:
        console.print(_targets(report["targets"]))
    console.print(report["weights"], highlight=False)


def _times(part: dict[str, Any]) -> Table:
    rows = part["contestants"]
    ours = [name for name in rows if name.startswith("ours")]
    n = min((row["n"] for row in rows.values()), default=0)
    table = Table(title=f"batch {part['batch']}: median ms a run, {n} rounds in turns")
    for column in (
        "",
        "encode",
        "decode",
        "total",
        "sd",
        "slices/s",
        "passes",
        "captions that differ",
    ):
        table.add_column(column, justify="left" if not column else "right")
    for name in ours:
        table.add_column(f"{name} is faster", justify="right")
    for name, row in sorted(rows.items(), key=lambda item: item[1]["total"]["median"]):
        differ = "-" if row["mismatched"] is None else f"{row['mismatched']} of {row['captions']}"
        table.add_row(
            name,
            *(f"{1000 * row[stage]['median']:.1f}" for stage in ("encode", "decode", "total")),
            f"{1000 * row['total']['stdev']:.1f}",
            f"{part['batch'] / row['total']['median']:.2f}",
            "" if row["passes"] is None else f"{row['passes']:.2f}",
            differ,
            *(_ratio(row["speedup"].get(mine)) for mine in ours),
        )
    return table


def _ratio(stages: dict[str, dict[str, float]] | None) -> str:
    if stages is None:
        return ""
    r = stages["total"]
    return f"{r['value']:.2f}x ({r['low']:.2f}–{r['high']:.2f})"


def _targets(lines: list[dict[str, Any]]) -> Table:
    table = Table("target", "batch", "wanted", "measured (95 % interval)", "roofline", "verdict")
    for line in lines:
        measured = (
            f"{line['value']:.2f}x ({line['low']:.2f}–{line['high']:.2f})"
            if "value" in line
            else "-"
        )
        most = f"{line['most']:.1f}x" if "most" in line else "-"
        wanted = f"{line['wanted']:g}x"
        table.add_row(line["target"], str(line["batch"]), wanted, measured, most, line["verdict"])
    return table


def plot(report: dict[str, Any], path: Path) -> None:
    """Encode and decode bars of every contestant, one panel a batch size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    parts = report["results"]
    height = 1.0 + 0.32 * max(len(part["contestants"]) for part in parts)
    figure, axes = plt.subplots(
        1, len(parts), figsize=(5.2 * len(parts), height), layout="constrained", squeeze=False
    )
    for axis, part in zip(axes[0], parts, strict=True):
        rows = sorted(
            part["contestants"].items(), key=lambda item: -float(item[1]["total"]["median"])
        )
        left = [0.0] * len(rows)
        for stage in ("encode", "decode"):
            widths = [1000 * row[stage]["median"] / part["batch"] for _, row in rows]
            axis.barh(range(len(rows)), widths, left=left, label=stage)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axis.set_yticks(range(len(rows)), [name for name, _ in rows])
        axis.set_xlabel("ms a slice (median)")
        axis.set_title(f"{report['model']}, batch {part['batch']}, {report['threads']} threads")
        axis.locator_params(axis="x", nbins=5)
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
