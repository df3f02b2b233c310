"""`python -m training.dataset SCANS --out DATA`: the CT-IQA data set of degraded, scored slices."""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
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
from .data.scans import Original, read_originals, split_patients, vary

MANIFEST = "manifest.csv"
ORIGINALS = 24
"""Most originals of one patient."""
DERIVED = 24
"""At least as many more of a training patient are derived from those, see `vary`."""


def build(
    scans: Path, out: Path, *, ids: list[str] | None, count: int, seed: int, workers: int
) -> pd.DataFrame:
    """Build the data set and return its manifest.

    Args:
        scans: folder of originals, see `training.data.scans.read_originals`.
        out: where `manifest.csv`, `slices/*.npy` (int16 HU), `maps/*.npy` (float16, see
            `training.data.maps`) and the pictures go.
        ids: scans to use; all when None.
        count: slices to make, as many of each patient.
        seed: the same seed gives the same data set.
        workers: processes.
    """
    found = read_originals(scans, ids, per_patient=ORIGINALS)
    split = split_patients(found, seed)
    quota = -(-count // len(split))
    originals = _varied(found, split, quota, seed)
    for folder in ("slices", "maps"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    shares = _shares(originals, quota)
    jobs = [
        (original, split[original.patient], n, first, seed, out)
        for original, n, first in zip(originals, shares, np.cumsum([0, *shares[:-1]]), strict=True)
        if n
    ]
    rows: list[dict[str, Any]] = []
    with (
        ProcessPoolExecutor(workers) as pool,
        tqdm(total=sum(shares), unit="slice", desc="CT-IQA") as bar,
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


def _varied(
    originals: list[Original], split: dict[str, str], quota: int, seed: int
) -> list[Original]:
    """Training patients get derived originals too; the others are judged as they were scanned."""
    patients: dict[str, list[Original]] = {}
    for original in originals:
        patients.setdefault(original.patient, []).append(original)
    varied = []
    for name, own in patients.items():
        some = min(ORIGINALS + DERIVED, quota)
        varied.extend(vary(own, some, seed) if split[name] == "train" else own)
    return varied


def _shares(originals: list[Original], quota: int) -> list[int]:
    """How many slices each original gives, in the order of patients."""
    shares: list[int] = []
    for patient in dict.fromkeys(o.patient for o in originals):
        n = sum(o.patient == patient for o in originals)
        shares.extend(quota // n + (i < quota % n) for i in range(n))
    return shares


def _degrade_original(job: tuple[Original, str, int, int, int, Path]) -> list[dict[str, Any]]:
    """All degraded versions of one original (runs in a worker process)."""
    original, split, count, first, seed, out = job
    degrader = Degrader(original.hu, original.spacing, original.hardening)
    rows = []
    for number in range(first, first + count):
        rng = np.random.default_rng([seed, number])
        degradation = Degradation() if number == first else draw(rng)
        layers = degrader.apply(degradation, rng)
        name, maps = f"slices/{number:05d}.npy", f"maps/{number:05d}.npy"
        np.save(out / name, np.rint(layers.image).astype(np.int16))
        np.save(out / maps, cell_maps(layers, degrader.hu))
        rows.append(
            {
                "id": number,
                "file": name,
                "maps": maps,
                "split": split,
                "patient": original.patient,
                "scan": original.scan,
                "slice": original.index,
                "body_part": original.body_part,
                "spacing_mm": original.spacing,
                **asdict(degradation),
                **measure(layers, degrader.hu, degrader.body).to_dict(),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.dataset",
        description=__doc__,
        epilog="example: python -m training.dataset scans/ --out runs/ct-iqa --count 1600",
    )
    parser.add_argument("scans", type=Path, help="folder of npz scans or DICOM folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--ids", type=Path, help="text file: the scans to use, a name a line")
    parser.add_argument("--count", type=int, default=1600, help="slices to make (1600)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(arguments)
    ids = args.ids.read_text().split() if args.ids else None
    try:
        manifest = build(
            args.scans, args.out, ids=ids, count=args.count, seed=args.seed, workers=args.workers
        )
    except FileNotFoundError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    from .data.pictures import contact_sheet, histograms

    contact_sheet(args.out, manifest, args.out / "contact-sheet.png")
    histograms(manifest, args.out / "histograms.png")
    sys.stdout.write(
        f"{len(manifest)} slices in {args.out}: {dict(manifest['split'].value_counts())}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
