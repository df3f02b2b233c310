"""One row per slice: what every output is made from. Names are file names, never identity."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assessment import Assessment
from ..errors import ImageFileError, IqaError
from ..prepare import square_pixels
from ..template import ATTRIBUTES

if TYPE_CHECKING:
    from ..dicom.reader import CtSlice
    from ..engine import Engine

CSV_COLUMNS = (
    "name",
    *ATTRIBUTES,
    *(f"{name}_confidence" for name in ATTRIBUTES),
    "caption",
    "impression",
    "suitability",
    "recommendation",
    "report_by",
    "report_reason",
    "score_origin",
    "error",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A slice's name and its assessment, or the error it has instead; its DICOM file and frame."""

    name: str
    result: Assessment | IqaError
    source: Path | None = None
    frame: int | None = None

    def to_json(self) -> str:
        """One JSON object on one line."""
        if isinstance(self.result, IqaError):
            found: dict[str, Any] = {"error": str(self.result), "kind": type(self.result).__name__}
        else:
            found = self.result.to_dict()
        return json.dumps({"name": self.name, **found}, ensure_ascii=False, allow_nan=False)

    def to_csv(self) -> dict[str, str]:
        """Values by `CSV_COLUMNS`; cells that a spreadsheet would run as a formula are quoted."""
        if isinstance(self.result, IqaError):
            return {"name": _plain(self.name), "error": _plain(str(self.result))}
        scores, report = self.result.scores, self.result.report
        return {
            "name": _plain(self.name),
            **{name: f"{score.value:.3f}" for name, score in scores.items()},
            **{f"{name}_confidence": f"{s.confidence:.3f}" for name, s in scores.items()},
            "caption": _plain(self.result.caption),
            "impression": _plain(report.impression),
            "suitability": report.suitability,
            "recommendation": _plain(report.recommendation),
            "report_by": report.source,
            "report_reason": _plain(report.provenance.reason or ""),
            "score_origin": self.result.score_origin,
        }


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def assessed(
    engine: Engine, items: Iterable[CtSlice | ImageFileError], size: int
) -> Iterator[tuple[Row, CtSlice | ImageFileError]]:
    """One row per item, in order; `size` slices are assessed together, so memory stays flat."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        sound = [item for item in group if not isinstance(item, ImageFileError)]
        slices = [square_pixels(item.hu, item.spacing) for item in sound]
        results = iter(engine.assess(slices) if slices else [])
        for item in group:
            if isinstance(item, ImageFileError):
                yield Row(str(item).partition(":")[0], item), item
            else:
                yield Row(item.name, next(results), item.source, item.frame), item
