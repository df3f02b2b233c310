"""Let a rival judge a data set: raw scores, calibration on validation patients, `scores.csv`.

What a rival said is a file, so that comparing is quick, and a rival that costs money is asked once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from engine.template import ATTRIBUTES
from engine.whole_file import written_whole

from ..data.degrade import Degradation
from ..data.formats import read_slice
from ..evaluate import apply_calibration, onto_scale
from .base import Array, Case, Rival, WeightsMissingError

SCORES, ABOUT = "scores.csv", "rival.json"
_TOGETHER = 16


def judge(rival: Rival, data: Path, rows: pd.DataFrame, out: Path) -> pd.DataFrame:
    """Scores of all test patients (and validation patients, to calibrate on) -> `out`.

    Args:
        rival: who judges.
        data: folder that the rows' files are relative to.
        rows: as `training.data.formats.read_table` gives them.
        out: gets `scores.csv` (file, split, one column an attribute, 0…4) and `rival.json`.

    Returns:
        What `scores.csv` holds.
    """
    parts = ["test"] if rival.on_scale else ["validation", "test"]
    asked = rows[rows["split"].isin(parts)]
    said = np.concatenate(
        [rival.scores(some) for some in _chunks(list_cases(data, rows, asked), len(asked))]
    )
    about: dict[str, Any] = {"name": rival.name, "rows_sha256": digest(rows)}
    if not rival.on_scale:
        known = (asked["split"] == "validation").to_numpy() & np.isfinite(said).all(1)
        truth = asked[list(ATTRIBUTES)].to_numpy(float)
        lines = onto_scale(said[known], truth[known])
        said, about["calibration"] = apply_calibration(said, lines), lines
    table = asked[["file", "split"]].assign(
        **{name: said[:, a] for a, name in enumerate(ATTRIBUTES)}
    )
    out.mkdir(parents=True, exist_ok=True)
    with written_whole(out / SCORES) as part:
        table.to_csv(part, index=False)
    with written_whole(out / ABOUT) as part:
        part.write_text(json.dumps(about, indent=1))
    return table


def read_scores(folder: Path, rows: pd.DataFrame) -> Array:
    """What a rival said about the test rows, (N, A) in their order; NaN where it was not asked.

    Raises:
        WeightsMissingError: the folder holds no scores.
        ValueError: they are of another data set, or of an earlier state of this one.
    """
    if not (folder / ABOUT).is_file():
        raise WeightsMissingError(f"{folder} holds no {SCORES}; run python -m training.rivals")
    if json.loads((folder / ABOUT).read_text())["rows_sha256"] != digest(rows):
        raise ValueError(f"{folder}: its scores are of other rows; run the rival again")
    said = pd.read_csv(folder / SCORES).set_index("file")[list(ATTRIBUTES)]
    return said.reindex(rows.loc[rows["split"] == "test", "file"]).to_numpy(float)


def list_cases(data: Path, rows: pd.DataFrame, asked: pd.DataFrame) -> Iterator[Case]:
    """The rows asked for as cases; the clean slice beside each where the data set has it."""
    clean = _originals(rows)
    for _, row in asked.iterrows():
        original = clean.get((row.get("scan"), row.get("slice")))
        yield Case(
            name=row["file"],
            hu=read_slice(data / row["file"]),
            clean=None if original is None else read_slice(data / original),
        )


def digest(rows: pd.DataFrame) -> str:
    """Changes when a file, a split or a score does."""
    text = rows[["file", "split", *ATTRIBUTES]].to_csv(index=False, float_format="%.6g")
    return hashlib.sha256(text.encode()).hexdigest()


def untouched(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """(N,) which rows nothing was done to; none where the data set does not say."""
    neutral = asdict(Degradation())
    if not neutral.keys() <= set(rows.columns):
        return np.zeros(len(rows), bool)
    return np.logical_and.reduce([rows[n].to_numpy() == value for n, value in neutral.items()])


def _originals(rows: pd.DataFrame) -> dict[tuple[object, object], str]:
    """(scan, slice) of held-out patients -> file of the version that nothing was done to."""
    if not {"scan", "slice"} <= set(rows.columns):
        return {}
    clean = rows[untouched(rows) & (rows["split"] != "train")]
    return {(row["scan"], row["slice"]): row["file"] for _, row in clean.iterrows()}


def _chunks(cases: Iterator[Case], count: int) -> Iterator[list[Case]]:
    some: list[Case] = []
    for case in tqdm(cases, total=count, desc="judge", unit="slice"):
        some.append(case)
        if len(some) == _TOGETHER:
            yield some
            some = []
    if some:
        yield some
