"""A small data set for all rivals."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support import dataset


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, chest: NDArray[np.float32]) -> Path:
    folder = tmp_path_factory.mktemp("ct-iqa") / "data"
    dataset.write(folder, [chest])
    return folder
