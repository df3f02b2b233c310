"""Writes rows as they come: JSON lines, CSV, HTML, DICOM SR; each file whole or not there."""

from __future__ import annotations

import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..assessment import Assessment
from ..dicom.sr import Finding, read_finding, structured_report
from ..whole_file import written_whole
from . import html
from .rows import CSV_COLUMNS, Row

_FIRST_SERIES = 9001
"""Series numbers of SRs: beyond those of scanners."""


class Sink(Protocol):
    """Takes rows one by one; `finish` makes the file appear."""

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """Write one row; `hu` is its picture, if there is one."""
        ...

    def finish(self) -> None:
        """The last row was written."""
        ...


class _File:
    """A text file written beside its name and renamed when finished."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self.stream: IO[str] = self._part.open("w", encoding="utf-8", newline="")

    def finish(self) -> None:
        self.stream.close()
        os.replace(self._part, self._path)


class JsonLines:
    """One JSON object per line, to a file or, for "-", to standard output."""

    def __init__(self, path: str) -> None:
        self._file = None if path == "-" else _File(Path(path))

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `Sink.add`."""
        stream = self._file.stream if self._file else sys.stdout
        stream.write(row.to_json() + "\n")

    def finish(self) -> None:
        """See `Sink.finish`."""
        if self._file:
            self._file.finish()


class Csv:
    """One line per slice."""

    def __init__(self, path: str) -> None:
        self._file = _File(Path(path))
        self._writer: Any = csv.DictWriter(self._file.stream, CSV_COLUMNS, restval="")
        self._writer.writeheader()

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `Sink.add`."""
        self._writer.writerow(row.to_csv())

    def finish(self) -> None:
        """See `Sink.finish`."""
        self._file.finish()


class StructuredReports:
    """One DICOM SR for each series, in a folder; files are named by their own UID."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._series: dict[tuple[str, str], list[Finding]] = {}

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `Sink.add`; what is not DICOM, or was not assessed, has no place in it."""
        if isinstance(row.result, Assessment) and row.source is not None:
            found = read_finding(row.source, row.frame, row.result)
            uids = (str(found.header.StudyInstanceUID), str(found.header.SeriesInstanceUID))
            self._series.setdefault(uids, []).append(found)

    def finish(self) -> None:
        """See `Sink.finish`."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for number, findings in enumerate(self._series.values(), start=_FIRST_SERIES):
            document = structured_report(findings, number=number)
            path = self._folder / f"{document.SOPInstanceUID}.dcm"
            with written_whole(path) as part:
                document.save_as(part, enforce_file_format=True)


class Html:
    """The page; cards wait on disk, not in memory, until they can be sorted."""

    def __init__(self, path: str) -> None:
        self._file = _File(Path(path))
        self._cards = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (until finish)
        self._index: list[tuple[float, int]] = []
        self._failed, self._origin = 0, "its training readers"

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `Sink.add`."""
        rank = -1.0
        if isinstance(row.result, Assessment):
            self._origin = row.result.score_origin
            rank = row.result.scores["overall"].value if "overall" in row.result.scores else -0.5
        else:
            self._failed += 1
        self._index.append((rank, self._cards.tell()))
        self._cards.write(html.card(row, html.thumbnail(hu) if hu is not None else ""))

    def finish(self) -> None:
        """See `Sink.finish`."""
        stream = self._file.stream
        stream.write(html.HEAD + html.heading(len(self._index), self._failed, self._origin))
        for _, place in sorted(self._index):
            self._cards.seek(place)
            stream.write(self._cards.readline())
        self._cards.close()
        stream.write(html.TAIL)
        self._file.finish()
