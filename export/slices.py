"""Real slices for calibration and parity: of a data set, or of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.dicom.series import SliceSource
from engine.errors import ImageFileError
from training.data.formats import folder_of, read_slice, read_table

from .errors import ExportError

T = TypeVar("T")

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
"""The DICOM slices of a checkout."""
CALIBRATION: Final = 400
"""Most slices to fit on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slices:
    """HU slices (H, W): `parity` to compare source and graphs on, `calibration` to fit on.

    INT8's scales and draft heads are fitted. Of a data set these are the test split and some of the
    training split, where patients are many; else all slices are both.
    """

    parity: list[NDArray[np.float32]]
    calibration: list[NDArray[np.float32]]


def read(data: Path, count: int | None = None) -> Slices:
    """Read slices.

    Args:
        data: a data set in one of the layouts of `training.data.formats`, an image file, or a
            folder of them.
        count: most slices of each kind, evenly spread; None: all.

    Raises:
        ExportError: there are none.
        ImageFileError: an image file cannot be read.
        ValueError: the data set is malformed.
    """
    if not data.exists():
        raise ExportError(f"{data} does not exist; --slices names a data set, or DICOM files")
    table = data if data.is_file() and data.suffix == ".csv" else None
    if table or any((data / name).is_file() for name in ("manifest.csv", "train.json")):
        found = Slices(
            parity=_split(data, "test", count),
            calibration=_split(data, "train", min(count or CALIBRATION, CALIBRATION)),
        )
    else:
        both = spread(_images(data), count)
        found = Slices(parity=both, calibration=both)
    if not found.parity:
        raise ExportError(f"{data} holds no slices to compare on")
    return found


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """At most `count` of the items, evenly spread, in order; None: all."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _split(data: Path, split: str, count: int | None) -> list[NDArray[np.float32]]:
    rows = read_table(data)
    folder = folder_of(data)
    names = [str(name) for name in rows[rows["split"] == split]["file"]]
    return [read_slice(folder / name) for name in spread(names, count)]


def _images(data: Path) -> list[NDArray[np.float32]]:
    slices: list[NDArray[np.float32]] = []
    for item in SliceSource([data]):
        if isinstance(item, ImageFileError):
            raise item
        slices.append(item.hu)
    return slices
