"""The whole run: make, measure, compare, report."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from engine.bundle.store import open_bundle
from engine.whole_file import written_whole

from ..harness.machine import describe
from ..harness.timing import StopRule
from . import compare, output
from .contestants import chosen
from .measure import Outcome, Plan, measure
from .workplace import Workplace

SCHEMA: Final = "iqagpt-peers-1"
_RANDOM: Final = (
    "weights are random but for the output head, which is fitted (ridge regression on captions of "
    "the template) so that captions follow the template and level words depend on the slices, not "
    "on the words before: drafts are accepted as a fine-tuned model's would be. The captions are "
    "the same for all slices and mean nothing"
)


def run(args: argparse.Namespace) -> int:
    """See `__main__`; the exit code."""
    contestants = chosen(args.peers, args.model)
    place = Workplace(args.workdir, args.model, args.checkpoint)
    manifest = open_bundle(place.bundle("fp32")).manifest
    pixels = place.pixels(manifest)
    repeats = args.iterations * len(args.batch) if len(args.iterations) == 1 else args.iterations
    plan = Plan(
        rules={
            batch: StopRule(warmup=args.warmup, iterations=count, seconds=args.seconds)
            for batch, count in zip(args.batch, repeats, strict=True)
        },
        threads=args.threads or os.cpu_count() or 1,
        slices=len(np.load(pixels, mmap_mode="r")),
    )
    outcomes = measure(contestants, place, manifest, pixels, plan)
    machine = describe()
    by_batch = {batch: compare.figures(outcomes, batch) for batch in plan.rules}
    promised = args.model == "blip-base"
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine,
        "iqagpt": version("iqagpt"),
        "model": args.model,
        "weights": f"{manifest.name}, SHA-256 {manifest.source_sha256}"
        + (f"; {_RANDOM}" if manifest.score_origin == "random weights" else ""),
        "threads": plan.threads,
        "warmup": args.warmup,
        "slices": plan.slices,
        "contestants": {o.contestant.name: _about(o) for o in outcomes},
        "results": [{"batch": b, "contestants": rows} for b, rows in by_batch.items()],
        "targets": compare.targets(by_batch, machine["flags"]) if promised else [],
    }
    output.print_tables(report)
    if args.plot:
        output.plot(report, args.plot)
    if args.json:
        with written_whole(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
    return _code(outcomes)


def _about(outcome: Outcome) -> dict[str, Any]:
    return {
        "about": outcome.contestant.about,
        "not_run": outcome.not_run,
        "failed": outcome.failed,
        "versions": outcome.versions,
        "load_seconds": outcome.load_seconds,
    }


def _code(outcomes: Sequence[Outcome]) -> int:
    if all(not o.answers for o in outcomes):
        return 2
    return 1 if any(o.failed for o in outcomes) else 0
