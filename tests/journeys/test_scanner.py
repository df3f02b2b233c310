"""A scanner sends files one by one; each is assessed as it comes, and a broken one costs nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import Assessment, Engine, ImageFileError, IqaError, square_pixels
from engine.dicom.reader import read_slices


def test_files_arriving_one_by_one(examples: Path, dicom_files: Path) -> None:
    paths = [*sorted(examples.glob("*.dcm")), dicom_files / "localizer-not-axial.dcm"]
    unreadable: list[str] = []

    async def scanner() -> AsyncIterator[NDArray[np.generic]]:
        for path in paths:
            try:
                for item in await asyncio.to_thread(read_slices, path):
                    yield square_pixels(item.hu, item.spacing)
            except ImageFileError as error:
                unreadable.append(str(error))

    async def workstation(engine: Engine) -> list[Assessment | IqaError]:
        return [item async for item in engine.stream(scanner())]

    with Engine.load(max_batch=2) as engine:
        found = asyncio.run(workstation(engine))
        series = engine.summarise(found)
    assert len(found) == 5
    assert "localizer" in unreadable[0]
    assert series.assessed == 5
    for item in found:
        assert isinstance(item, Assessment)
        assert json.loads(item.to_json())["batch_size"] in (1, 2)
