"""Data sets on disk -> one table: our own, the LDCTIQAC 2023 layout, a CSV of human scores.

A table has the columns `file`, `split`, `patient`, one per attribute, and `origin`
("simulated readers" or "human readers").
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from engine.prepare import square_pixels
from engine.template import ATTRIBUTES

LDCTIQAC_WINDOW = (-135.0, 215.0)
"""LDCTIQAC 2023 images are stored in the abdominal window 350/40 as 0…1 (zenodo 7833096)."""


def read_table(data: Path) -> pd.DataFrame:
    """The rows of a data set, whatever its layout.

    Args:
        data: our folder (`manifest.csv`), an LDCTIQAC 2023 folder (`train.json` beside
            `image/` or the TIFFs), or a CSV with `path` and `overall` (and, if they were
            given, `patient`, `split` and the other attributes).

    Raises:
        FileNotFoundError: none of these is there.
        ValueError: a column is missing or a score lies outside 0…4.
    """
    if (data / "manifest.csv").is_file():
        table = pd.read_csv(data / "manifest.csv", dtype={"patient": str})
        origin = "simulated readers"
    elif (data / "train.json").is_file():
        table, origin = _ldctiqac(data), "human readers"
    elif data.suffix == ".csv" and data.is_file():
        table = pd.read_csv(data, dtype={"patient": str}).rename(columns={"path": "file"})
        origin = "human readers"
    else:
        raise FileNotFoundError(f"{data} holds no manifest.csv, no train.json, and is no CSV file")
    return _complete(table, data, origin)


def folder_of(data: Path) -> Path:
    """The folder that the `file` column of a data set is relative to."""
    return data.parent if data.suffix == ".csv" else data


def _ldctiqac(data: Path) -> pd.DataFrame:
    scores = json.loads((data / "train.json").read_text())
    folder = next((f for f in ("image", "images", ".") if (data / f / min(scores)).is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"{data}: train.json names {min(scores)}, which is not there")
    return pd.DataFrame({"file": [f"{folder}/{n}" for n in scores], "overall": scores.values()})


def _complete(table: pd.DataFrame, data: Path, origin: str) -> pd.DataFrame:
    """Fill in what a layout leaves out, and check the rest."""
    if not {"file", "overall"} <= set(table.columns):
        raise ValueError(f"{data}: the columns 'file' (or 'path') and 'overall' are needed")
    for name in ATTRIBUTES:
        if name not in table:
            table[name] = table["overall"]
        values = table[name].to_numpy(float)
        if not ((values >= 0) & (values <= 4)).all():
            raise ValueError(f"{data}: column {name} has values outside 0…4, or none at all")
    if "patient" not in table:
        table["patient"] = table["file"].map(lambda name: Path(str(name)).stem)
    if "split" not in table:
        table["split"] = table["patient"].map(_hashed_split)
    table["origin"] = origin
    return table


def _hashed_split(patient: str) -> str:
    """70 % train, 15 % validation, 15 % test, by the patient's name alone."""
    part = hashlib.sha256(str(patient).encode()).digest()[0] / 256
    return "train" if part < 0.7 else "validation" if part < 0.85 else "test"


def read_slice(path: Path) -> NDArray[np.float32]:
    """One image file as (H, W) HU: npy, DICOM, or a windowed LDCTIQAC picture (tif, png).

    Raises:
        ValueError: the file holds no slice.
    """
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False), np.float32)
    if path.suffix in (".tif", ".tiff", ".png"):
        with Image.open(path) as picture:
            values = np.asarray(picture, np.float32)
        low, high = LDCTIQAC_WINDOW
        top = 1.0 if values.max() <= 1.0 else 255.0
        return np.asarray(low + values / top * (high - low), np.float32)
    from engine.dicom.reader import read_slices

    found = read_slices(path)[0]
    return np.asarray(square_pixels(found.hu, found.spacing), np.float32)
