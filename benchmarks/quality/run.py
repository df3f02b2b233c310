"""The run itself: the engine judges, rivals are read, every section is measured and written."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from engine import Engine
from engine.errors import IqaError
from engine.template import ATTRIBUTES, caption, level_of
from training.data.degrade import Degradation
from training.data.formats import folder_of, read_slice, read_table
from training.data.readers import READERS
from training.evaluate import resamples
from training.rivals.judge import read_scores

from . import plots, report, stress
from .captions import caption_measures
from .judged import Judged, assess
from .measures import (
    Array,
    agree,
    agree_all,
    ceiling,
    intervals,
    paired,
    reliability,
)

SCHEMA = "iqagpt-quality-1"
_NEUTRAL = Degradation()
_KINDS: dict[str, Callable[[pd.DataFrame], Any]] = {
    "noise": lambda r: r["dose"] < _NEUTRAL.dose,
    "blur": lambda r: r["blur_px"] > 0,
    "over-smoothing": lambda r: r["smoothing"] > 0,
    "sparse views": lambda r: r["views"] < _NEUTRAL.views,
    "limited angle": lambda r: r["missing_deg"] > 0,
    "motion": lambda r: r["motion_px"] > 0,
    "rings": lambda r: r["ring"] > 0,
    "metal": lambda r: r["metal_px"] > 0,
}


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. Exit codes: 0 done, 2 bad input, 3 engine or rival."""
    try:
        rows = read_table(args.data)
        with Engine.load(args.bundle, device=args.device, threads=args.threads) as engine:
            return (_challenge if args.protocol else _measure)(engine, rows, args)
    except (FileNotFoundError, ValueError, IqaError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 3 if isinstance(error, IqaError) else 2


def _measure(engine: Engine, rows: pd.DataFrame, args: argparse.Namespace) -> int:
    """The full benchmark on test patients."""
    folder = folder_of(args.data)
    test = rows[rows["split"] == "test"].reset_index(drop=True)
    if args.slices:
        picks = np.linspace(0, len(test) - 1, min(args.slices, len(test))).astype(int)
        test = test.iloc[np.unique(picks)].reset_index(drop=True)
    judged = assess(engine, (read_slice(folder / n) for n in test["file"]), len(test), "assess")
    truth = test[list(ATTRIBUTES)].to_numpy(float)
    samples = resamples(test["patient"].to_numpy(str), args.rounds)
    rivals = {name: _rival(Path(path), rows, test) for name, path in args.rival}
    known = judged.assessed
    manifest = engine.bundle.manifest
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "bundle": f"{manifest.name} {manifest.version}",
        "score_origin": str(rows["origin"].iloc[0]),
        "slices": len(test),
        "patients": int(test["patient"].nunique()),
        "refused": int((~known).sum()),
        "rounds": args.rounds,
        "agreement": agree_all(judged.scores, truth),
        "intervals": intervals(judged.scores, truth, samples),
        "rivals": {name: agree_all(said, truth) for name, said in rivals.items()},
        "paired": {
            name: paired(judged.scores, said, truth, samples) for name, said in rivals.items()
        },
        "ceiling": _ceiling(test),
        "captions": caption_measures(
            [text for text, yes in zip(judged.captions, known, strict=True) if yes],
            [_reference(line) for line in truth[known]],
        ),
        "reliability": reliability(judged.scores, judged.confidence, judged.probabilities, truth),
        "groups": _groups(test, judged.scores, truth),
    }
    if args.stress:
        result |= _stress(engine, folder, rows, test, judged, args.stress)
    _write(result, judged, truth, args.out)
    return 0


def _rival(folder: Path, rows: pd.DataFrame, test: pd.DataFrame) -> Array:
    """Its scores in the order of the test slices at hand."""
    said = read_scores(folder, rows)
    files = rows.loc[rows["split"] == "test", "file"]
    return said[pd.Index(files).get_indexer(pd.Index(test["file"]))]


def _stress(
    engine: Engine,
    folder: Path,
    rows: pd.DataFrame,
    test: pd.DataFrame,
    judged: Judged,
    count: int,
) -> dict[str, Any]:
    """Sections that make new slices of the test patients; `count` slices or originals each."""
    picks = np.unique(np.linspace(0, len(test) - 1, min(count * 4, len(test))).astype(int))
    slices = [read_slice(folder / name) for name in test["file"].iloc[picks]]
    upright = Judged(
        scores=judged.scores[picks],
        confidence=judged.confidence[picks],
        probabilities=judged.probabilities[picks],
        captions=[judged.captions[i] for i in picks],
        errors=[judged.errors[i] for i in picks],
    )
    found: dict[str, Any] = {
        "moved": stress.moved(engine, slices, upright, stress.unsure_below(judged))
    }
    originals = stress.originals_of(rows, count) if "dose" in rows else rows.iloc[:0]
    if len(originals):
        pairs = [
            (read_slice(folder / row["file"]), float(row["spacing_mm"]))
            for _, row in originals.iterrows()
        ]
        found["series"] = stress.series(engine, pairs)
    patients = test["patient"].iloc[picks].tolist()
    return found | {"outsiders": stress.outsiders(engine, slices, patients, judged)}


def _ceiling(test: pd.DataFrame) -> dict[str, Any]:
    names = [[f"reader{r + 1}_{a}" for a in ATTRIBUTES] for r in range(len(READERS))]
    if not {name for line in names for name in line} <= set(test.columns):
        return {}
    return ceiling(np.stack([test[line].to_numpy(float) for line in names]))


def _groups(test: pd.DataFrame, said: Array, truth: Array) -> dict[str, Any]:
    """Agreement within groups of test slices; a slice with two degradations is in both groups."""
    found: dict[str, Any] = {}
    if {"dose", "blur_px", "views"} <= set(test.columns):
        masks = {name: of(test).to_numpy() for name, of in _KINDS.items()}
        masks["nothing done"] = ~np.logical_or.reduce(list(masks.values()))
        found["degradation"] = {
            name: agree_all(said[mask], truth[mask]) for name, mask in masks.items() if mask.any()
        }
    for column, title in (("body_part", "body part"), ("patient", "patient")):
        if column in test and (column != "patient" or test["patient"].nunique() <= 40):
            found[title] = {
                str(name): agree_all(said[own.index], truth[own.index])
                for name, own in test.groupby(column)
            }
    return found


def _reference(scores: Array) -> str:
    return caption({n: level_of(float(s)) for n, s in zip(ATTRIBUTES, scores, strict=True)})


def _challenge(engine: Engine, rows: pd.DataFrame, args: argparse.Namespace) -> int:
    """LDCTIQAC 2023: |PLCC| + |SROCC| + |KROCC| of the overall score."""
    folder = folder_of(args.data)
    judged = assess(engine, (read_slice(folder / n) for n in rows["file"]), len(rows), "assess")
    said, truth = judged.scores[:, -1], rows["overall"].to_numpy(float)
    figures = agree(said, truth)
    total = sum(abs(figures.get(key, 0.0)) for key in ("plcc", "srocc", "krocc"))
    result = {
        "schema": "iqagpt-quality-ldctiqac2023-1",
        "bundle": f"{engine.bundle.manifest.name} {engine.bundle.manifest.version}",
        "slices": len(rows),
        "refused": int((~judged.assessed).sum()),
        "score": total,
        "overall": figures,
    }
    print(
        f"|PLCC| + |SROCC| + |KROCC| = {total:.4f} of 3 on {len(rows)} slices, "
        f"{result['refused']} refused"
    )
    print(_json(result))
    return 0


def _write(result: dict[str, Any], judged: Judged, truth: Array, out: Path | None) -> None:
    text = report.markdown(result)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "quality.md").write_text(text, "utf-8")
        (out / "quality.json").write_text(_json(result) + "\n")
        plots.scatter(judged.scores, truth, out / "scatter.png")
        plots.reliability(result["reliability"], out / "reliability.png")
        if "series" in result:
            plots.curves(result["series"], out / "curves.png")
    print(text)
    print(_json(result))


def _json(result: dict[str, Any]) -> str:
    return json.dumps(_finite(result), allow_nan=False)


def _finite(value: Any) -> Any:
    """NaN is no JSON: it becomes null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
