"""The roofline as tables and as a plot; what is a projection says so everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from .ceilings import Ceilings
from .model import Gpu, Roof


def print_ceilings(found: Ceilings) -> None:
    """The machine's limits, before anything is held against them."""
    print(
        f"ceilings: {found.sgemm / 1e9:.0f} GFLOP/s FP32 product, "
        f"{found.int8_gemm / 1e9:.0f} GOP/s INT8 product, "
        f"memory {found.read / 1e9:.1f} GB/s read, {found.copy / 1e9:.1f} GB/s copy"
    )


def print_tables(report: dict[str, Any]) -> None:
    """Stages against this machine's roofline, and the projections."""
    console = Console(width=120)
    bundle = report["bundle"]
    table = Table(title=f"{bundle['name']}, {bundle['precision']}: stages on this machine")
    columns = ("batch", "T", "GFLOP", "MB", "MB unfused", "FLOP/B", "ms", "GFLOP/s", "roofline ms")
    table.add_column("stage")
    for column in (*columns, "limit", "share"):
        table.add_column(column, justify="right")
    for s in report["stages"]:
        cost = s["cost"]
        ops = cost["float_ops"] + cost["int8_ops"]
        table.add_row(
            s["name"],
            str(s["batch"]),
            str(s["length"]),
            f"{ops / 1e9:.3g}",
            f"{cost['least_bytes'] / 1e6:.3g}",
            f"{cost['unfused_bytes'] / 1e6:.3g}",
            f"{s['intensity']:.3g}",
            f"{1e3 * s['seconds']:.2f}",
            f"{s['ops_per_second'] / 1e9:.3g}",
            f"{1e3 * s['bound_s']:.3f}",
            s["limit"],
            f"{s['share']:.0%}",
        )
    console.print(table)
    console.print(_projections(report["projections"]))


def _projections(lines: Sequence[dict[str, Any]]) -> Table:
    table = Table(
        title="PROJECTION from public peak figures, not measured: least µs (µs at this CPU's share)"
    )
    kinds = list(dict.fromkeys((line["stage"], line["batch"]) for line in lines))
    table.add_column("GPU (projection)")
    for stage, batch in kinds:
        table.add_column(f"{stage}, batch {batch}", justify="right")
    for gpu in dict.fromkeys(line["gpu"] for line in lines):
        cells = [
            f"{1e6 * line['bound_s']:.3g} ({1e6 * line['at_share_here_s']:.3g})"
            for line in lines
            if line["gpu"] == gpu
        ]
        table.add_row(gpu, *cells)
    return table


def plot(report: dict[str, Any], roof: Roof, gpus: Sequence[Gpu], path: Path) -> None:
    """Log-log: this machine's roof with its measured stages, the GPUs' roofs dashed."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7.5, 5), layout="constrained")
    reach = np.geomspace(0.2, 2000, 200)
    axis.plot(reach, _roof(roof, reach) / 1e9, "k-", label="this machine, FP32, measured")
    if report["bundle"]["precision"] == "int8":
        axis.axhline(roof.int8_rate / 1e9, color="k", ls=":", label="this machine, INT8, measured")
    for index, gpu in enumerate(gpus):
        heights = _roof(gpu.roof, reach) / 1e9
        axis.plot(reach, heights, f"C{index}--", lw=1, label=f"{gpu.name}, FP16, projection")
    markers = {"encode": "o", "verify": "s", "step": "^"}
    for stage in report["stages"]:
        x, y = stage["intensity"], stage["ops_per_second"] / 1e9
        axis.plot(x, y, markers[stage["name"]], color="k", ms=6)
        axis.annotate(
            f"{stage['name']}, {stage['batch']}",
            (x, y),
            (5, -9),
            textcoords="offset points",
            fontsize=8,
        )
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="operations a byte of least traffic",
        ylabel="GFLOP/s",
        title=f"{report['bundle']['name']}, {report['bundle']['precision']}: stage, batch size",
    )
    axis.legend(fontsize=8, loc="upper left")
    axis.grid(alpha=0.3, which="both")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _roof(roof: Roof, reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """Operations a second at each intensity; FP16 moves half the bytes of the FP32 graph."""
    return np.minimum(roof.float_rate, reach * roof.bandwidth / roof.traffic)
