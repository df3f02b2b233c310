"""What is no CT slice: made within HU, entered unscored, and learned with no level favoured."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.template import ATTRIBUTES, LEVELS
from tests.training.test_model import VOCABULARY, tiny
from training.data.maps import CELL_PX, MAPS
from training.data.outsiders import outsider
from training.finetune import CaptionLearner
from training.model import Captioner, SecondOrderStem
from training.samples import TOKEN_DROPOUT, Samples

_SLICES = [np.full((128, 128), 40.0, np.float32), np.zeros((128, 128), np.float32)]
_SLICES[0][32:96, 32:96] = np.linspace(-900.0, 900.0, 64)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_kind_looks_like_hounsfield_units(seed: int) -> None:
    found = outsider(_SLICES, np.random.default_rng(seed))
    assert found.shape == (128, 128)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert found.min() >= -1024.0
    assert found.max() <= 3071.0
    again = outsider(_SLICES, np.random.default_rng(seed))
    assert np.array_equal(found, again)


def test_training_favours_no_level_for_them(tmp_path: Path, chest: NDArray[np.float32]) -> None:
    rows = []
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", chest + i)
        rows.append({"file": f"{i}.npy", "patient": str(i), **dict.fromkeys(ATTRIBUTES, 3.0)})
    samples = Samples(tmp_path, pd.DataFrame(rows), SecondOrderStem(tiny()), VOCABULARY, 3)
    assert len(samples) == 5
    assert (samples.patients == "outsiders").sum() == 3
    batch = samples.batch(np.arange(5), np.random.default_rng(0))
    assert torch.all(batch.words.soft[2:] == 1.0 / len(LEVELS))
    assert torch.all(batch.words.soft[:2, :, 3] == 1.0)
    assert samples.physics.isnan().any(1).sum() == 0, "nobody knows any physics here"
    learner = CaptionLearner(Captioner(tiny()), VOCABULARY)
    assert torch.isfinite(learner.loss(batch, 1.0))


def test_maps_turn_with_the_slice_and_tokens_are_left_out(
    tmp_path: Path, chest: NDArray[np.float32]
) -> None:
    """The map here marks one corner; after any turn it is the corner that has the slice's air."""
    size = tiny().size
    marked = np.zeros((len(MAPS), size // CELL_PX, size // CELL_PX), np.float16)
    marked[0, 0, 0] = 100.0
    corner = np.full(chest.shape, 0.0, np.float32)
    corner[: corner.shape[0] // 4, : corner.shape[1] // 4] = -1000.0
    np.save(tmp_path / "0.npy", corner)
    np.save(tmp_path / "maps.npy", marked)
    row = {"file": "0.npy", "maps": "maps.npy", "patient": "a", **dict.fromkeys(ATTRIBUTES, 3.0)}
    samples = Samples(tmp_path, pd.DataFrame([row]), SecondOrderStem(tiny()), VOCABULARY)
    tokens = tiny().grid ** 2
    for seed in range(12):
        batch = samples.batch(np.zeros(1, np.intp), np.random.default_rng(seed))
        pixels = batch.statistics[1][0, 1].unfold(0, 8, 8).unfold(1, 8, 8).mean((-1, -2))
        streak = batch.maps[0, :, :4].max(1).values.reshape(tiny().grid, -1)
        darkest = pixels.reshape(tiny().grid, 2, -1, 2).amin((1, 3)).argmin()
        assert streak.argmax() == darkest
        assert batch.kept is not None
        assert batch.kept.shape == (1, round(tokens * (1.0 - TOKEN_DROPOUT)))
    whole = samples.batch(np.zeros(1, np.intp))
    assert whole.kept is None
    captioner = Captioner(tiny())
    assert captioner.features(whole.statistics).shape[1] == tokens
