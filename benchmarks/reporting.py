"""`python -m benchmarks.reporting DATA`: a language model's agreement, latency and calls.

Slices are captioned by the default bundle; a model rates the captions, first with an empty cache,
then again. Its scores are compared with the template's (the captioner's own) and with the readers'
of the data set. Nothing is refused for straying from the caption (`tolerance=None`), so that the
agreement is the model's own; how many replies the engine would refuse is counted apart.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from engine import Assessment, Engine, InputError, ReporterOptions
from engine.reporting.options import TOGETHER
from engine.template import ATTRIBUTES, LEVELS

from .harness.machine import describe

Readers = dict[str, NDArray[np.float64]]
TOLERANCE = ReporterOptions().tolerance or 0.0


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table, and the result as one line of JSON at the end."""
    args = _parser().parse_args(arguments)
    rows = _rows(args.data, args.slices)
    slices = [np.load(args.data / row["file"]) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        options = _options(args, Path(folder) / "replies.sqlite3")
        cold, results = _run(slices, options)
        warm, _ = _run(slices, options)
    pairs = [(item, row) for item, row in zip(results, rows, strict=True) if _good(item)]
    found = [item for item, _ in pairs if isinstance(item, Assessment)]
    readers: Readers = {
        name: np.array([float(row[name]) for _, row in pairs])
        for name in ATTRIBUTES
        if name in rows[0]
    }
    result = {
        "schema": "iqagpt-reporting-1",
        "machine": describe(),
        "model": _model(found),
        "slices": len(slices),
        "distinct_captions": len({item.caption for item in found}),
        "cold": cold,
        "warm": warm,
        "would_be_refused": sum(_strays(item) for item in found),
        "agreement": _agreement(found, readers),
    }
    _print(result)
    text = json.dumps(result)
    if args.json:
        args.json.write_text(text + "\n", "utf-8")
    print(text)
    return 0 if result["agreement"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reporting", description=__doc__)
    parser.add_argument("data", type=Path, help="data set written by training.dataset")
    parser.add_argument("--slices", type=int, help="test slices, evenly spread (all)")
    parser.add_argument("--base-url", help="OpenAI-compatible server (default: OpenAI)")
    parser.add_argument("--model", help="model id at the server")
    parser.add_argument("--gguf", type=Path, help="a model file to serve here instead")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one call")
    parser.add_argument("--deadline", type=float, default=120.0, help="seconds for 64 slices")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    return parser


def _options(args: argparse.Namespace, cache: Path) -> ReporterOptions:
    named = {"model": args.model} if args.model else {}
    return ReporterOptions(
        base_url=args.base_url,
        gguf=args.gguf,
        timeout=args.timeout,
        deadline=args.deadline,
        cache=cache,
        tolerance=None,
        **named,
    )


def _rows(data: Path, count: int | None) -> list[dict[str, str]]:
    """Test slices of the data set's manifest, evenly spread."""
    with (data / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    if count is None:
        return rows
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return [rows[place] for place in places]


def _run(
    slices: Sequence[NDArray[np.generic]], options: ReporterOptions
) -> tuple[dict[str, Any], list[Assessment | InputError]]:
    """All slices through a new engine: figures, and results in order."""
    results: list[Assessment | InputError] = []
    begin = time.perf_counter()
    with Engine.load(reporter=options) as engine:
        for first in range(0, len(slices), TOGETHER):
            results += engine.assess(list(slices[first : first + TOGETHER]))
        stats = engine.reporter_stats()
    if stats is None:
        raise RuntimeError("the engine was loaded without a reporter")
    found = [item for item in results if isinstance(item, Assessment)]
    reasons = {item.report.provenance.reason for item in found} - {None}
    figures = {
        **asdict(stats),
        "hit_rate": stats.hit_rate,
        "calls_per_1000_slices": 1000.0 * stats.calls / max(len(found), 1),
        "report_ms_a_slice": 1000.0 * float(np.mean([a.timings.report for a in found])),
        "seconds": time.perf_counter() - begin,
        "fallback_reasons": sorted(map(str, reasons)),
    }
    return figures, results


def _good(item: Assessment | InputError) -> bool:
    return isinstance(item, Assessment)


def _model(found: Sequence[Assessment]) -> dict[str, str | None]:
    """Who answered, as the first reply that is not the template's says."""
    for item in found:
        if item.source != "template":
            said = item.report.provenance
            return {"id": said.model, "fingerprint": said.fingerprint, "prompt": said.prompt}
    return {"id": None, "fingerprint": None, "prompt": None}


def _strays(item: Assessment) -> bool:
    """Whether the engine's default tolerance would refuse the reply."""
    return any(
        abs(item.report.ratings[name].value - LEVELS.index(score.level)) > TOLERANCE
        for name, score in item.scores.items()
    )


def _agreement(
    found: Sequence[Assessment], readers: Readers
) -> dict[str, dict[str, dict[str, float]]]:
    """Pair of judges -> attribute -> PLCC, SROCC, MAE, over slices that the model rated."""
    rated = np.array([item.source != "template" for item in found])
    if rated.sum() < 3:
        return {}
    judged = [item for item, yes in zip(found, rated, strict=True) if yes]
    pairs: dict[str, dict[str, dict[str, float]]] = {}
    for name in ATTRIBUTES:
        model = np.array([item.report.ratings[name].value for item in judged])
        template = np.array([item.scores[name].value for item in judged])
        pairs.setdefault("model - template", {})[name] = _compare(model, template)
        if name in readers:
            people = readers[name][rated]
            pairs.setdefault("model - readers", {})[name] = _compare(model, people)
            pairs.setdefault("template - readers", {})[name] = _compare(template, people)
    return pairs


def _compare(a: NDArray[np.float64], b: NDArray[np.float64]) -> dict[str, float]:
    return {
        "n": len(a),
        "plcc": _correlation(a, b),
        "srocc": _correlation(rankdata(a), rankdata(b)),
        "mae": float(np.abs(a - b).mean()),
    }


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Pearson's; 0 where one side is constant: it tells nothing."""
    return 0.0 if np.ptp(a) == 0 or np.ptp(b) == 0 else float(np.corrcoef(a, b)[0, 1])


def _print(result: dict[str, Any]) -> None:
    console = Console(file=sys.stdout)
    console.print(f"model {result['model']}, {result['slices']} slices")
    figures = Table("", "empty cache", "again")
    for key in ("calls", "calls_per_1000_slices", "hit_rate", "fallbacks", "report_ms_a_slice"):
        figures.add_row(key.replace("_", " "), *(f"{result[r][key]:.4g}" for r in ("cold", "warm")))
    console.print(figures)
    console.print(f"replies the engine would refuse: slices {result['would_be_refused']}")
    table = Table("judges", "attribute", "n", "PLCC", "SROCC", "MAE")
    for pair, attributes in result["agreement"].items():
        for name, found in attributes.items():
            cells = (f"{found[key]:.3f}" for key in ("plcc", "srocc", "mae"))
            table.add_row(pair, name, str(found["n"]), *cells)
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
