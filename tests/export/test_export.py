"""A captioner with random weights becomes a bundle that says the same, or nothing at all."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine import Assessment, Engine
from export import export, parity
from export.errors import CheckpointError
from tests.training.test_model import VOCABULARY, tiny
from training.model import Captioner


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(2)
    Captioner(tiny()).save(folder)
    VOCABULARY.tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_export_load_assess(checkpoint: Path, tmp_path: Path, chest: NDArray[np.float32]) -> None:
    slices = [chest, chest[::-1], chest.T]
    manifest = export(checkpoint, tmp_path / "bundle", slices)
    assert manifest.parity["captions_identical"] == 1.0
    assert manifest.parity["probability_max"] < 1e-4
    with Engine.load(tmp_path / "bundle") as engine:
        found = engine.assess(chest)
        assert isinstance(found, Assessment)
        assert not found.follows_template, "random weights do not write the template"
    export(checkpoint, tmp_path / "bundle", slices[:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_a_failed_parity_check_leaves_nothing(
    checkpoint: Path,
    tmp_path: Path,
    chest: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parity, "MAX_PROBABILITY_DIFFERENCE", -1.0)
    with pytest.raises(parity.ParityError, match="captions_identical 1"):
        export(checkpoint, tmp_path / "bundle", [chest])
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_refused_with_the_remedy(tmp_path: Path, chest: NDArray[np.float32]) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="save_file"):
        export(tmp_path, tmp_path / "bundle", [chest])


def test_a_missing_file_is_named(tmp_path: Path, chest: NDArray[np.float32]) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        export(tmp_path, tmp_path / "bundle", [chest])
