"""The whole run: ceilings, stages, projections, report."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any, Final

from engine.bundle.store import open_bundle
from engine.whole_file import written_whole

from ..harness.machine import describe
from ..harness.timing import StopRule
from . import ceilings, model, output, stages

SCHEMA: Final = "iqagpt-roofline-1"


def run(args: argparse.Namespace) -> int:
    """See `__main__`; the exit code."""
    bundle = open_bundle(args.bundle)
    measured = ceilings.measure(args.threads)
    roof = model.here(measured)
    output.print_ceilings(measured)
    manifest = bundle.manifest
    found = [
        stage
        for batch in args.batch
        for stage in stages.measure(
            bundle,
            batch,
            threads=args.threads,
            rule=StopRule(warmup=3, iterations=args.iterations, seconds=args.seconds),
        )
    ]
    named = model.gpus(manifest.precision)
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": describe(),
        "threads": args.threads,
        "bundle": {
            "name": manifest.name,
            "version": manifest.version,
            "source_sha256": manifest.source_sha256,
            "precision": manifest.precision,
        },
        "ceilings": asdict(measured),
        "stages": [_stage(stage, roof) for stage in found],
        "projections": [_projection(stage, gpu, roof) for gpu in named for stage in found],
        "projections_note": "not measured: computed from the vendors' peak figures; `bound_s` is "
        "the least time, `at_share_here_s` assumes the share of the roofline that this machine "
        "reached. Kernel launches and transfers are in neither.",
        "sources": {gpu.name: gpu.source for gpu in named},
    }
    output.print_tables(report)
    if args.plot:
        output.plot(report, roof, named, args.plot)
    if args.json:
        with written_whole(args.json) as part:
            part.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
    return 0


def _stage(stage: stages.Stage, roof: model.Roof) -> dict[str, Any]:
    bound, limit = roof.bound(stage.cost)
    return {
        **asdict(stage),
        "ops_per_second": stage.cost.ops / stage.seconds,
        "intensity": stage.cost.intensity,
        "bound_s": bound,
        "limit": limit,
        "share": bound / stage.seconds,
    }


def _projection(stage: stages.Stage, gpu: model.Gpu, roof: model.Roof) -> dict[str, Any]:
    bound, limit = gpu.roof.bound(stage.cost)
    share = roof.bound(stage.cost)[0] / stage.seconds
    return {
        "projection": True,
        "gpu": gpu.name,
        "class": gpu.kind,
        "stage": stage.name,
        "batch": stage.batch,
        "length": stage.length,
        "bound_s": bound,
        "limit": limit,
        "at_share_here_s": bound / share,
    }
