"""Originals for the data set: scans as npz files, or DICOM folders, one patient each or more."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine.errors import IqaError
from engine.prepare import resample, square_pixels

from .degrade import Own, log_uniform
from .regions import PATCH, far_from_edges, soft_tissue

SIZE = 512
EVEN_TISSUE_PX = 2 * PATCH**2
"""Even tissue far from edges that an original must have: where noise and lesions are looked for."""
_PARTS = ("phantom", "head", "neck", "chest", "abdomen", "spine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """One slice to degrade, resampled to (512, 512) HU; `spacing` in mm is that of its pixels.

    `own` is what it is to be given as its own, see `degrade.Own`.
    """

    scan: str
    patient: str
    body_part: str
    index: int
    spacing: float
    hu: NDArray[np.float32]
    own: Own | None = None


def read_originals(folder: Path, ids: Iterable[str] | None, per_patient: int) -> list[Original]:
    """Evenly spaced slices of every patient found, at most `per_patient` each.

    A slice without even soft tissue, where readers look, is left out: the top of a skull.

    Args:
        folder: npz scans (`hu` (n, h, w), `spacing`) with a JSON file beside each, and/or one
            folder of DICOM files per patient.
        ids: names of the scans to use; all when None.
        per_patient: bound on the slices of one patient, so that long scans do not dominate.

    Raises:
        FileNotFoundError: nothing to read, or a name in `ids` is missing.
    """
    wanted = set(ids) if ids is not None else None
    slices: dict[str, list[Original]] = {}
    found = set()
    for path in sorted(folder.iterdir()):
        name = path.stem if path.suffix == ".npz" else path.name
        if (wanted is not None and name not in wanted) or not (
            path.suffix == ".npz" or path.is_dir()
        ):
            continue
        found.add(name)
        for original in _read_npz(path) if path.suffix == ".npz" else _read_dicom(path):
            if np.count_nonzero(far_from_edges(soft_tissue(original.hu))) >= EVEN_TISSUE_PX:
                slices.setdefault(original.patient, []).append(original)
    if not slices or (wanted is not None and found != wanted):
        missing = ", ".join(sorted((wanted or set()) - found)) or "any *.npz or DICOM folder"
        raise FileNotFoundError(f"{folder} does not hold {missing}")
    return [original for patient in slices.values() for original in _spread(patient, per_patient)]


def _spread(slices: list[Original], count: int) -> list[Original]:
    picks = np.linspace(0, len(slices) - 1, min(count, len(slices))).round().astype(int)
    return [slices[i] for i in picks]


def _original(
    scan: str, patient: str, part: str, i: int, mm: float, hu: NDArray[np.generic]
) -> Original:
    side = max(hu.shape)
    return Original(
        scan=scan,
        patient=patient,
        body_part=next((p for p in _PARTS if p in re.findall("[a-z]+", part.lower())), "body"),
        index=i,
        spacing=mm * side / SIZE,
        hu=resample(hu.astype(np.float32), SIZE),
    )


def _read_npz(path: Path) -> list[Original]:
    about = json.loads(path.with_suffix(".json").read_text())
    with np.load(path, allow_pickle=False) as scan:
        hu, spacing = scan["hu"], float(scan["spacing"][0])
    part = str(about.get("body_part", ""))
    patient = str(about.get("patient") or path.stem)
    return [_original(path.stem, patient, part, i, spacing, image) for i, image in enumerate(hu)]


def _read_dicom(folder: Path) -> list[Original]:
    from engine.dicom.series import SliceSource

    patient = hashlib.sha256(folder.name.encode()).hexdigest()[:12]
    return [
        _original(
            folder.name,
            patient,
            "",
            i,
            min(item.spacing) if item.spacing else 0.8,
            square_pixels(item.hu, item.spacing),
        )
        for i, item in enumerate(SliceSource([folder]))
        if not isinstance(item, IqaError)
    ]


def derived(original: Original, number: int, seed: int) -> Original:
    """Another original made of a patient's own; the same `number` and `seed` make the same one.

    A patient with a single slice would otherwise be learned by heart, and what a scanner shows of
    a few patients taken for what all patients show. The derived ones have another field of view
    (zoom 0.7 … 1.6, 20 degrees of turn at most, shift), organs of another shape, and another
    contrast of fat, muscle, vessels and bone. Noise has another grain in each; half of them have
    more of their own, and half a beam hardening, which scanners correct more or less well.
    """
    digest = _digest(original.patient, seed)
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "big"), number])
    zoom, angle = log_uniform(0.7, 1.6, rng), rng.uniform(-0.35, 0.35)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    middle = (SIZE - 1) / 2
    grid = np.mgrid[:SIZE, :SIZE].reshape(2, -1) - middle - rng.uniform(-40.0, 40.0, (2, 1))
    places = (turn @ grid + middle).reshape(2, SIZE, SIZE) + _bend(rng)
    hu = original.hu
    if zoom < 1.0:  # no aliasing
        hu = ndimage.gaussian_filter(hu, 0.5 * np.sqrt(zoom**-2 - 1.0))
    seen = ndimage.map_coordinates(hu, places, order=3, mode="constant", cval=-1000.0)
    contrast = _other_contrast(np.clip(seen, -1024.0, 3071.0), rng)
    own = Own(
        hardening=log_uniform(0.005, 0.04, rng) * int(rng.integers(2)),
        dose=log_uniform(0.1, 1.0, rng) if rng.integers(2) else 1.0,
        grain=log_uniform(0.5, 1.6, rng),
        seed=int(rng.integers(2**31)),
    )
    hu, spacing = contrast.astype(np.float32), original.spacing / zoom
    return replace(original, hu=hu, spacing=spacing, own=own)


def _bend(rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth displacements of a few pixels, (2, SIZE, SIZE)."""
    field = ndimage.gaussian_filter(rng.standard_normal((2, SIZE // 8, SIZE // 8)), (0, 5, 5))
    smooth = np.stack([ndimage.zoom(part, 8, order=3) for part in field / field.std()])
    return np.asarray(rng.uniform(0.0, 6.0) * smooth)


def _other_contrast(hu: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """A rising curve through -1000 and 20 HU whose slopes vary by about a fifth."""
    knots = np.array([-1024.0, -700.0, -150.0, -50.0, 20.0, 70.0, 150.0, 400.0, 3071.0])
    curve = np.concatenate(
        [[0.0], np.cumsum(np.diff(knots) * np.exp(0.2 * rng.standard_normal(len(knots) - 1)))]
    )
    below, water = np.interp(20.0, knots, curve), np.flatnonzero(knots == 20.0)[0]
    curve[: water + 1] = curve[: water + 1] / below * 1044.0 - 1024.0
    curve[water + 1 :] = curve[water + 1 :] - below + 20.0
    return np.clip(np.interp(hu, knots, curve), -1024.0, 3071.0).astype(np.float32)


def _digest(patient: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{patient}".encode()).digest()


def split_patients(originals: Iterable[Original], seed: int) -> dict[str, str]:
    """Patient -> train, validation or test; within every body part, in an order the seed draws.

    A body part with a single patient trains, and so do phantoms, which are nobody; of every eight
    patients, two test and two validate.
    """
    pattern = ("train", "test", "train", "validation", "train", "test", "train", "validation")
    parts: dict[str, set[str]] = {}
    for original in originals:
        parts.setdefault(original.body_part, set()).add(original.patient)
    split: dict[str, str] = {}
    for part, patients in parts.items():
        for i, patient in enumerate(sorted(patients, key=lambda p: _digest(p, seed))):
            split.setdefault(patient, "train" if part == "phantom" else pattern[i % len(pattern)])
    return split
