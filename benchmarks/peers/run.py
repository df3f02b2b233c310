"""The whole run: make, measure, compare, report."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from engine.bundle.store import open_bundle
from engine.whole_file import written_whole

from ..harness.machine import describe
from ..harness.timing import StopRule
from ..roofline import ceilings
from ..roofline.model import Roof, here
from . import compare, limits, output
from .contestants import chosen
from .measure import Outcome, Plan, measure
from .workplace import Workplace

SCHEMA: Final = "iqagpt-peers-1"
_RANDOM: Final = (
    "weights are random but for the output head, which is fitted (ridge regression on captions of "
    "the template) so that captions follow the template and level words do not depend on the words "
    "before: drafts are accepted as a fine-tuned model's would be by an engine without a draft "
    "head. The captions are the same for all slices and mean nothing"
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
    machine, roof = describe(), here(ceilings.measure(plan.threads))
    outcomes = measure(contestants, place, manifest, pixels, plan)
    by_batch = {batch: compare.figures(outcomes, batch) for batch in plan.rules}
    _add_least(by_batch, outcomes, place, roof)
    promised = args.model == "blip-base"
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine,
        "roof": asdict(roof),
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


def _add_least(
    by_batch: dict[int, dict[str, Any]],
    outcomes: Sequence[Outcome],
    place: Workplace,
    roof: Roof,
) -> None:
    """Give every row of the engine on the CPU the "least" times of `limits`."""
    for outcome in outcomes:
        contestant = outcome.contestant
        if not contestant.ours or contestant.gpu or contestant.bundle is None:
            continue
        for batch, answers in outcome.answers.items():
            bundle = open_bundle(place.bundle(contestant.bundle))
            lengths = [len(row) for answer in answers for row in answer.tokens]
            by_batch[batch][contestant.name]["least"] = limits.least(bundle, batch, lengths, roof)


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
