"""A captioner from elsewhere learns to judge slices: captions, scores, a bundle that drafts."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from engine import Assessment, Engine
from export import export, random_checkpoint
from export.finetune import main
from tests.support.dataset import write_dozen


@pytest.fixture
def data(tmp_path: Path, chest: NDArray[np.float32]) -> Path:
    """Slices as they should be, and far too dark ones, of six patients: easy to tell apart."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    write_dozen(
        folder,
        lambda i: chest - 500.0 * (i % 2) + 20.0 * rng.standard_normal(chest.shape),
        lambda i: 4.0 * (1 - i % 2),
    )
    return folder


def test_a_blip_learns_resumes_and_becomes_a_bundle_that_drafts(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, out = tmp_path / "start", tmp_path / "out"
    random_checkpoint.write("blip-tiny", start, fitted=False)
    arguments = [str(start), str(data), "--out", str(out), "--batch", "4", "--rate", "1e-3"]
    assert main([*arguments, "--steps", "10", "--every", "10"]) == 0
    assert main([*arguments, "--steps", "120", "--every", "30"]) == 0
    assert "| overall |" in capsys.readouterr().out
    steps = pd.read_csv(out / "run" / "learning-curve.csv")["step"].tolist()
    assert steps == [10, 30, 60, 90, 120]
    assert json.loads((out / "training.json").read_text())["score_origin"] == "simulated readers"
    slices = [np.load(data / f"slices/{i}.npy").astype(np.float32) for i in (10, 11)]
    export(out, tmp_path / "bundle", slices)
    with Engine.load(tmp_path / "bundle") as engine:
        good, bad = (item for item in engine.assess(slices) if isinstance(item, Assessment))
    assert good.follows_template
    assert bad.follows_template
    assert good.scores["noise"].value > bad.scores["noise"].value + 2.0
    assert good.decoder_passes == bad.decoder_passes == 1


def test_what_cannot_be_read_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none"), str(data), "--out", str(tmp_path / "out")]) == 2
    assert "config.json" in capsys.readouterr().err
    assert main([str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "manifest.csv" in capsys.readouterr().err
