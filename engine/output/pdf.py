"""A PDF of pictures, scores, captions and reports: a slice a block, in the order they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..assessment import Assessment
from ..errors import MissingExtraError
from ..template import ATTRIBUTES, MAX_SCORE
from ..whole_file import written_whole
from .pictures import thumbnail
from .rows import Row
from .terminal import written_by

_PICTURE: Final = 55.0
"""Side of a picture in mm."""
_BLOCK: Final = 85.0
"""Height kept free for a slice, mm."""


class Pdf:
    """A4 pages; text in the built-in Latin-1 font, so a letter it lacks prints as "?"."""

    def __init__(self, path: str) -> None:
        """Start the document.

        Raises:
            MissingExtraError: the extra `pdf` is not installed.
        """
        try:
            from fpdf import FPDF
        except ImportError as error:
            raise MissingExtraError(
                'PDF needs the extra "pdf": pip install "iqagpt[pdf]"'
            ) from error
        self._path = Path(path)
        self._page: Any = FPDF(format="A4")
        self._page.set_title("CT image quality")
        self._page.set_auto_page_break(auto=True, margin=15)
        self._page.add_page()
        self._line("CT image quality", 16, bold=True)
        self._line(f"Scores 0 (bad) to {MAX_SCORE:.0f} (excellent). Not a medical device.", 9)

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `files.Sink.add`."""
        page = self._page
        if page.will_page_break(_BLOCK):
            page.add_page()
        page.ln(4)
        self._line(row.name, 11, bold=True)
        if not isinstance(row.result, Assessment):
            self._line(f"Not assessed: {row.result}", 9)
            return
        top = page.get_y()
        if hu is not None:
            page.image(thumbnail(hu), x=page.l_margin, y=top, h=_PICTURE)
            page.set_left_margin(page.l_margin + _PICTURE + 5)
        for text in _texts(row.result):
            self._line(text, 9)
        if hu is not None:
            page.set_left_margin(page.l_margin - _PICTURE - 5)
            page.set_y(max(page.get_y(), top + _PICTURE))

    def finish(self) -> None:
        """See `files.Sink.finish`."""
        with written_whole(self._path) as part:
            self._page.output(str(part))

    def _line(self, text: str, size: int, *, bold: bool = False) -> None:
        self._page.set_font("helvetica", "B" if bold else "", size)
        plain = text.encode("latin-1", "replace").decode("latin-1")
        self._page.set_x(self._page.l_margin)
        self._page.multi_cell(0, size * 0.45, plain, align="L", new_x="LMARGIN", new_y="NEXT")


def _texts(found: Assessment) -> list[str]:
    """Scores, then what was written about them."""
    lines = [
        f"{name.replace('_', ' ')}: {score.value:.1f} ({score.words}, "
        f"confidence {score.confidence:.0%})"
        for name in ATTRIBUTES
        if (score := found.scores.get(name)) is not None
    ]
    report = found.report
    return [
        *lines,
        found.caption,
        f"{report.impression} {report.recommendation}",
        f"Suitability for diagnosis: {report.suitability}. {report.limits}",
        f"Scores learned from {found.score_origin}; report by {written_by(report)}.",
    ]
