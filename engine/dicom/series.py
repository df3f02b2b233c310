"""Files and folders -> slices in order, one at a time, so that any number fits in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ImageFileError, UnreadableFileError
from .reader import CtSlice, position, read_header, read_slices

_NIFTI = (".nii", ".nii.gz")
_SKIPPED = (".txt", ".md", ".json", ".csv", ".png", ".jpg", ".html", ".pdf", ".xml", ".py", ".zip")


class SliceSource:
    """Slices of files and folders: series by series, each ordered along its normal.

    Iterating gives a `CtSlice`, or the `ImageFileError` of a file that gives none; the rest goes
    on. `len()` is the number of files planned: a multi-frame file gives more slices.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._files = [file for path in paths for file in _files(Path(path))]

    def __len__(self) -> int:
        return len(self._files)

    def __iter__(self) -> Iterator[CtSlice | ImageFileError]:
        for file in self._files:
            try:
                yield from _read(file)
            except ImageFileError as error:
                yield error


def _files(path: Path) -> list[Path]:
    """The files of a path in order; a folder is searched to its depth."""
    if not path.is_dir():
        return [path]
    found = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and file.suffix.lower() not in _SKIPPED
        and file.name != "DICOMDIR"
        and not file.name.startswith(".")
    ]
    return sorted(found, key=_order)


def _order(file: Path) -> tuple[str, str, float, str]:
    """Folder, series, geometry, name; an unreadable file sorts by its name alone."""
    try:
        header = None if _is_nifti(file) else read_header(file)
    except UnreadableFileError:
        header = None
    where = position(header) if header is not None else None
    series = str(header.get("SeriesInstanceUID", "")) if header is not None else ""
    return str(file.parent), series, where if where is not None else 0.0, file.name


def _is_nifti(file: Path) -> bool:
    return file.name.lower().endswith(_NIFTI)


def _read(file: Path) -> Iterable[CtSlice]:
    if _is_nifti(file):
        from ..nifti import read_volume

        return read_volume(file)
    return read_slices(file)
