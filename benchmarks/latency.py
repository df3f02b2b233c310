"""`python -m benchmarks.latency`: how long one slice takes, by stage and batch size.

Timed: `Engine.assess` on real example slices, warm-up excluded, HU arrays already in memory.
Not timed: reading DICOM. A stage's time is that of its batch divided by the batch size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

SCHEMA = "iqagpt-latency-1"
STAGES = ("prepare", "encode", "decode", "report")
EXAMPLES = Path(__file__).parents[1] / "examples"

_COLD = """
import time; begin = time.perf_counter()
import sys; import numpy as np; from engine import Engine
with Engine.load(sys.argv[1] or None) as engine:
    engine.assess(np.load(sys.argv[2]))
print(time.perf_counter() - begin)
"""


def measure(
    engine: Any, slices: list[Any], batch: int, limits: argparse.Namespace
) -> dict[str, Any]:
    """One batch size: end-to-end and stage times per slice, throughput, decoder passes."""
    stages: dict[str, list[float]] = {name: [] for name in STAGES}
    totals: list[float] = []
    passes: list[int] = []
    begin, runs = time.perf_counter(), 0
    while runs < limits.warmup + limits.iterations or time.perf_counter() - begin < limits.seconds:
        group = [slices[(runs * batch + i) % len(slices)] for i in range(batch)]
        start = time.perf_counter()
        results = engine.assess(group)
        elapsed = time.perf_counter() - start
        runs += 1
        if runs <= limits.warmup:
            begin = time.perf_counter()
            continue
        totals.append(elapsed)
        for name in STAGES:
            stages[name].append(sum(getattr(r.timings, name) for r in results) / batch)
        passes += [r.decoder_passes for r in results]
    from .harness.stats import summarise

    return {
        "batch": batch,
        "run": summarise(totals),
        "stages_per_slice": {name: summarise(values) for name, values in stages.items()},
        "slices_per_second": batch * len(totals) / sum(totals),
        "decoder_passes_mean": sum(passes) / len(passes),
    }


def cold_start(bundle: str | None, hu: Any, rounds: int = 3) -> float:
    """Seconds from a fresh interpreter's start to its first assessment, median."""
    import tempfile

    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slice.npy"
        np.save(path, hu)
        command = [sys.executable, "-c", _COLD, bundle or "", str(path)]
        return median(
            float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(rounds)
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m benchmarks.latency --batch 1 8 --json latency.json",
    )
    parser.add_argument("--bundle", help="bundle folder (default: the one inside)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes (1 8)")
    parser.add_argument("--threads", type=int, help="threads per graph run (default: all cores)")
    parser.add_argument("--iterations", type=int, default=50, help="least runs (50)")
    parser.add_argument("--seconds", type=float, default=10.0, help="least time (10)")
    parser.add_argument("--warmup", type=int, default=10, help="runs not counted (10)")
    parser.add_argument("--json", help="write the result here, too")
    parser.add_argument("--plot", help="PNG of stage bars")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Command line; the last line of stdout is the result as one line of JSON."""
    args = _parser().parse_args(arguments)
    from engine import Engine, ImageFileError
    from engine.dicom.series import SliceSource

    from .harness.machine import describe, sgemm_gflops

    items = list(SliceSource([EXAMPLES]))
    slices = [item.hu for item in items if not isinstance(item, ImageFileError)]
    if not slices:
        print(f"error: no example slices in {EXAMPLES}; run from a checkout", file=sys.stderr)
        return 2
    ceiling = sgemm_gflops()
    print(f"ceiling: {ceiling:.0f} GFLOP/s float32 matrix product")
    with Engine.load(args.bundle, threads=args.threads, max_batch=max(args.batch)) as engine:
        manifest = engine.bundle.manifest
        results = [measure(engine, slices, batch, args) for batch in args.batch]
    report = {
        "schema": SCHEMA,
        "machine": describe(),
        "sgemm_gflops": ceiling,
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "source_sha256": manifest.source_sha256,
            "precision": manifest.precision,
        },
        "threads": args.threads,
        "results": results,
        "first_assessment_s": cold_start(args.bundle, slices[0]),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    }
    _print_table(report)
    if args.plot:
        _plot(report, args.plot)
    line = json.dumps(report)
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")
    print(line)
    return 0


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("batch", *STAGES, "run p50", "run p90", "run p99", "slices/s", "passes")
    table.title = "ms per slice by stage (p50); ms per run; n = " + ", ".join(
        str(r["run"]["n"]) for r in report["results"]
    )
    for r in report["results"]:
        stages = [f"{r['stages_per_slice'][n].get('p50_ms', float('nan')):.2f}" for n in STAGES]
        runs = [
            f"{r['run'][p]:.1f}" if p in r["run"] else "-" for p in ("p50_ms", "p90_ms", "p99_ms")
        ]
        table.add_row(
            str(r["batch"]),
            *stages,
            *runs,
            f"{r['slices_per_second']:.1f}",
            f"{r['decoder_passes_mean']:.2f}",
        )
    Console().print(table)
    print(
        f"first assessment {report['first_assessment_s']:.2f} s after process start, "
        f"peak RSS {report['peak_rss_mb']:.0f} MB, {report['machine']['cpu']}"
    )


def _plot(report: dict[str, Any], path: str) -> None:
    """Stage bars per batch size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
    for row, result in enumerate(report["results"]):
        left = 0.0
        for index, name in enumerate(STAGES):
            width = result["stages_per_slice"][name]["mean_ms"]
            axis.barh(row, width, left=left, color=f"C{index}", label=name if row == 0 else None)
            left += width
    axis.set_yticks(
        range(len(report["results"])), [f"batch {r['batch']}" for r in report["results"]]
    )
    axis.set_xlabel("mean ms per slice")
    axis.legend(ncols=4, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())
