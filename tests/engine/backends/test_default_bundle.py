"""The default bundle on a GPU says what it says on the CPU.

python -m pytest tests/engine/backends -m gpu
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Assessment, Engine

VARIATIONS = 200


@pytest.fixture(scope="module")
def varied(slices: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """The example slices, turned and noisier."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(VARIATIONS):
        turned = np.rot90(slices[i % len(slices)], i // 5 % 4)
        noisier = turned + rng.normal(0.0, 10.0 * (i // 20 % 5), turned.shape)
        found.append(noisier.astype(np.float32))
    return [*slices, *found]


@pytest.fixture
def on_gpu() -> Iterator[Engine]:
    """The default bundle on CUDA."""
    with Engine.load(device="cuda") as loaded:
        yield loaded


@pytest.mark.gpu
def test_captions_and_scores_are_those_of_the_cpu(
    engine: Engine, on_gpu: Engine, varied: list[NDArray[np.float32]]
) -> None:
    for there, here in zip(on_gpu.assess(varied), engine.assess(varied), strict=True):
        assert isinstance(there, Assessment)
        assert isinstance(here, Assessment)
        assert there.caption == here.caption
        for name, score in here.scores.items():
            assert there.scores[name].probabilities == pytest.approx(score.probabilities, abs=1e-4)
