"""Shared fixtures: the default bundle's engine, example slices; no model at import."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def examples() -> Path:
    """Folder of the example DICOM slices."""
    return ROOT / "examples"


@pytest.fixture(scope="session")
def slices(examples: Path) -> list[NDArray[np.float32]]:
    """The example slices in the order of their names, each (512, 512) HU, of different quality."""
    from engine.dicom.reader import read_slices

    return [read_slices(path)[0].hu for path in sorted(examples.glob("*.dcm"))]


@pytest.fixture(scope="session")
def dicom_files() -> Path:
    """Folder of genuine DICOM files in many transfer syntaxes."""
    return ROOT / "tests" / "data" / "dicom"


@pytest.fixture(scope="session")
def chest(examples: Path) -> NDArray[np.float32]:
    """A good chest slice, (512, 512) HU."""
    from engine.dicom.reader import read_slices

    return read_slices(examples / "chest-original.dcm")[0].hu


@pytest.fixture(scope="session")
def engine() -> Iterator[object]:
    """The default bundle, loaded once."""
    from engine import Engine

    with Engine.load() as loaded:
        yield loaded
