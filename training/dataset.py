"""`python -m training.dataset SCANS --out DATA`: the CT-IQA data set of degraded, scored slices."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from engine.template import ATTRIBUTES

from .data.degrade import Degradation, Degrader, draw
from .data.maps import cell_maps
from .data.measure import Measurements, measure
from .data.readers import READERS, mean_scores, read
from .data.scans import Original, derived, read_originals, split_patients

MANIFEST = "manifest.csv"
ORIGINALS = 24
"""Most originals of one patient that are as they were scanned."""
DAMAGES = 3
"""Slices made of each derived original: training patients get as many of those as that takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One original and the slices to make of it.

    Attributes:
        variation: makes another original of this one, see `training.data.scans.derived`; None
            leaves it as it was scanned.
        first, count: numbers of the slices.
        seed, out: see `build`.
    """

    original: Original
    variation: int | None
    split: str
    first: int
    count: int
    seed: int
    out: Path


def build(
    scans: Path, out: Path, *, ids: list[str] | None, train: int, test: int, seed: int, workers: int
) -> pd.DataFrame:
    """Build the data set and return its manifest.

    Args:
        scans: folder of originals, see `training.data.scans.read_originals`.
        out: where `manifest.csv`, `slices/*.npy` (int16 HU), `maps/*.npy` (float16, see
            `training.data.maps`) and the pictures go.
        ids: scans to use; all when None.
        train: slices to make of each patient that trains.
        test: slices to make of each other patient.
        seed: the same seed gives the same data set.
        workers: processes.
    """
    originals = read_originals(scans, ids, per_patient=ORIGINALS)
    split = split_patients(originals, seed)
    for folder in ("slices", "maps"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    jobs = _jobs(originals, split, train, test, seed, out)
    rows: list[dict[str, Any]] = []
    with (
        ProcessPoolExecutor(workers) as pool,
        tqdm(total=sum(job.count for job in jobs), unit="slice", desc="CT-IQA") as bar,
    ):
        for made in pool.map(_degrade_original, jobs):
            rows.extend(made)
            bar.update(len(made))
    manifest = score(pd.DataFrame(rows), seed)
    manifest.to_csv(out / MANIFEST, index=False)
    return manifest


def score(manifest: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Let the readers score every row by its measurements; adds or replaces the score columns."""
    names = tuple(Measurements.__dataclass_fields__)
    scored = manifest.copy()
    opinions = [
        read(
            Measurements(**{name: float(row[name]) for name in names}),
            np.random.default_rng([seed, 1, int(row["id"])]),
        )
        for _, row in scored.iterrows()
    ]
    means = [mean_scores(opinion) for opinion in opinions]
    for name in ATTRIBUTES:
        scored[name] = [mean[name] for mean in means]
        for r in range(len(READERS)):
            scored[f"reader{r + 1}_{name}"] = [opinion[r][name] for opinion in opinions]
    return scored


def _jobs(
    originals: list[Original], split: dict[str, str], train: int, test: int, seed: int, out: Path
) -> list[Job]:
    """What to make of every patient; only of those that train, derived originals too."""
    jobs: list[Job] = []
    first = 0
    for patient in dict.fromkeys(o.patient for o in originals):
        own = [o for o in originals if o.patient == patient]
        trains = split[patient] == "train"
        quota = train if trains else test
        derived_ones = range(max(0, quota // DAMAGES - len(own)) if trains else 0)
        variations = [None] * len(own) + list(derived_ones)
        for i, variation in enumerate(variations):
            count = quota // len(variations) + (i < quota % len(variations))
            if count:
                jobs.append(
                    Job(
                        original=own[i % len(own)],
                        variation=variation,
                        split=split[patient],
                        first=first,
                        count=count,
                        seed=seed,
                        out=out,
                    )
                )
            first += count
    return jobs


def _degrade_original(job: Job) -> list[dict[str, Any]]:
    """All slices of one original (runs in a worker process); its own first one is undamaged."""
    original = job.original
    if job.variation is not None:
        original = derived(original, job.variation, job.seed)
    degrader = Degrader(original.hu, original.spacing, original.own)
    rows = []
    for number in range(job.first, job.first + job.count):
        rng = np.random.default_rng([job.seed, number])
        whole = job.variation is None and number == job.first
        degradation = Degradation() if whole else draw(rng)
        layers = degrader.apply(degradation, rng)
        name, maps = f"slices/{number:05d}.npy", f"maps/{number:05d}.npy"
        np.save(job.out / name, np.rint(layers.image).astype(np.int16))
        np.save(job.out / maps, cell_maps(layers))
        rows.append(
            {
                "id": number,
                "file": name,
                "maps": maps,
                "split": job.split,
                "patient": original.patient,
                "scan": original.scan,
                "slice": original.index,
                "body_part": original.body_part,
                "spacing_mm": original.spacing,
                **asdict(degradation),
                **measure(layers).to_dict(),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.dataset",
        description=__doc__,
        epilog="example: python -m training.dataset scans/ --out runs/ct-iqa",
    )
    parser.add_argument("scans", type=Path, help="folder of npz scans or DICOM folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--ids", type=Path, help="text file: the scans to use, a name a line")
    parser.add_argument("--train", type=int, default=1200, help="slices a training patient (1200)")
    parser.add_argument(
        "--test", type=int, default=273, help="slices a validation or test patient (273)"
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    ids = args.ids.read_text().split() if args.ids else None
    try:
        manifest = build(
            args.scans,
            args.out,
            ids=ids,
            train=args.train,
            test=args.test,
            seed=args.seed,
            workers=args.workers,
        )
    except FileNotFoundError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    from .data.pictures import contact_sheet, histograms

    contact_sheet(args.out, manifest, args.out / "contact-sheet.png")
    histograms(manifest, args.out / "histograms.png")
    sys.stdout.write(
        f"{len(manifest)} slices in {args.out}: {manifest['split'].value_counts().to_dict()}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
