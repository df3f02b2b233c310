"""Whole studies and long runs: from files or memory through `Engine.stream`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from engine import Assessment, Engine, ImageFileError
from engine.dicom.series import SliceSource

from ..harness.schema import Distribution
from ..harness.slices import EXAMPLES
from .report import MemoryPoint, Whole

Slice = NDArray[np.float32]
_POINTS = 100


def make_study(folder: Path, count: int) -> None:
    """Write `count` DICOM files of one series: the examples in turn, each with its own SOP UID.

    They keep the examples' JPEG-LS encoding.
    """
    import pydicom
    from pydicom.uid import generate_uid

    examples = [pydicom.dcmread(path) for path in sorted(EXAMPLES.glob("*.dcm"))]
    study, series = generate_uid(), generate_uid()
    for number, dataset in enumerate(islice(cycle(examples), count), start=1):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.InstanceNumber = number
        dataset.ImagePositionPatient = [0, 0, number]
        dataset.save_as(folder / f"{number:05}.dcm", enforce_file_format=True)


class StudyReader:
    """Reads a folder's slices in order, and times that.

    Attributes:
        list_s: seconds for listing and ordering.
        decode_s: seconds spent on reading and decoding so far.
        failed: files that gave no slice.
    """

    def __init__(self, folder: Path) -> None:
        begin = time.perf_counter()
        self._source = SliceSource([folder])
        self.list_s = time.perf_counter() - begin
        self.decode_s = 0.0
        self.failed = 0

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[Slice]:
        items = iter(self._source)
        while True:
            begin = time.perf_counter()
            item = next(items, None)
            self.decode_s += time.perf_counter() - begin
            if item is None:
                return
            if isinstance(item, ImageFileError):
                self.failed += 1
            else:
                yield item.hu


def study(engine: Engine, folder: Path) -> Whole:
    """A folder of DICOM files to assessments."""
    begin = time.perf_counter()
    reader = StudyReader(folder)
    return asyncio.run(_run(engine, iter(reader), len(reader), begin, reader))


def soak(engine: Engine, slices: Sequence[Slice], count: int) -> Whole:
    """Slices from memory, the same ones in turn."""
    fed = islice(cycle(slices), count)
    return asyncio.run(_run(engine, fed, count, time.perf_counter(), None))


async def _run(
    engine: Engine, slices: Iterable[Slice], count: int, begin: float, reader: StudyReader | None
) -> Whole:
    process = psutil.Process()
    every = max(1, count // _POINTS)
    memory: list[MemoryPoint] = []
    times: list[float] = []
    failed = 0
    async for item in engine.stream(slices):
        times.append(time.perf_counter() - begin)
        failed += not isinstance(item, Assessment)
        if len(times) % every == 0:
            rss = process.memory_info().rss / 2.0**20
            memory.append(MemoryPoint(slices=len(times), rss_mb=rss))
    return Whole(
        slices=len(times) - failed,
        failed=failed + (reader.failed if reader else 0),
        list_s=reader.list_s if reader else 0.0,
        decode_s=reader.decode_s if reader else 0.0,
        first_result_s=times[0],
        seconds=times[-1],
        slices_per_second=len(times) / times[-1],
        rate=Distribution.of_rates(_rates(times)),
        memory=memory,
        growth_mb=_growth(memory),
    )


def _rates(times: Sequence[float]) -> list[float]:
    """Slices a second in each tenth of the results; the first tenth has the start, too."""
    edges = np.unique(np.linspace(0, len(times), 11).astype(int))
    at = np.concatenate([[0.0], times])[edges]
    return [float(rate) for rate in np.diff(edges) / np.maximum(np.diff(at), 1e-9)]


def _growth(memory: Sequence[MemoryPoint]) -> float:
    tenth = max(1, len(memory) // 10)
    values = [point.rss_mb for point in memory]
    settled = values[tenth : 2 * tenth] or values
    return float(np.mean(values[-tenth:]) - np.mean(settled))
