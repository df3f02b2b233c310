"""Fine-tuning end to end on a handful of slices: learns, resumes, writes what export needs."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from engine.template import ATTRIBUTES
from tests.support.dataset import write_dozen
from training.evaluate import agreement, calibrate
from training.finetune import main


@pytest.fixture
def data(tmp_path: Path, chest: NDArray[np.float32]) -> Path:
    """Twelve slices from six patients; noise decides the score."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    write_dozen(
        folder,
        lambda i: chest + rng.standard_normal(chest.shape) * 10.0 * (i % 5),
        lambda i: 4.0 - i % 5,
    )
    return folder


def test_finetune_resumes_and_finishes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = [str(data), "--out", str(out), "--batch", "2", "--every", "1"]
    assert main([*arguments, "--steps", "1"]) == 0
    assert main([*arguments, "--steps", "2"]) == 0
    assert "| overall |" in capsys.readouterr().out
    curve = pd.read_csv(out / "joint" / "learning-curve.csv")
    assert curve["step"].tolist() == [1, 2]
    about = json.loads((out / "training.json").read_text())
    assert set(about["calibration"]) == set(ATTRIBUTES)
    assert about["score_origin"] == "simulated readers"
    names = {path.name for path in out.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert (out / "joint" / "learning-curve.png").is_file()


def test_distillation_teaches_the_decoder_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(data), "--out", str(out), "--batch", "2", "--every", "1", "--steps", "1"]
    assert main(arguments) == 0
    before = load_file(out / "joint" / "model.safetensors")
    changed = {
        name.split(".")[0]
        for name, tensor in load_file(out / "model.safetensors").items()
        if not torch.equal(tensor, before[name])
    }
    assert changed == {"words", "positions", "decoder", "decoder_norm", "head"}
    assert main([*arguments, "--without", "distillation"]) == 0
    for name, tensor in load_file(out / "model.safetensors").items():
        assert torch.equal(tensor, before[name])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data), "--out", str(tmp_path / "out"), "--device", "cuda"]) == 2
    assert "sees no GPU" in capsys.readouterr().err


def test_no_data_set_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "manifest.csv" in capsys.readouterr().err


def test_who_says_the_same_of_every_slice_agrees_with_nobody() -> None:
    same, truth = np.full(6, 2.0), np.arange(6.0) % 5
    found = agreement(same, truth, np.array(list("aabbcc")))
    assert (found.plcc, found.srocc, found.krocc, found.plcc_low, found.plcc_high) == (0,) * 5
    assert found.rmse > 0.0
    line = calibrate(np.tile(same[:, None], 5), np.tile(truth[:, None], 5))["noise"]
    assert line == {"slope": 0.0, "intercept": pytest.approx(truth.mean())}


def test_calibration_clips_no_score() -> None:
    expected = np.linspace(0.0, 4.0, 41)
    strict, kind = np.clip(expected - 0.4, 0.0, 4.0), np.clip(expected * 1.3 - 0.2, 0.0, 4.0)
    for truth in (strict, kind):
        line = calibrate(np.tile(expected[:, None], 5), np.tile(truth[:, None], 5))["noise"]
        scores = line["intercept"] + line["slope"] * expected
        assert (scores.min() >= 0.0, scores.max() <= 4.0) == (True, True)
        assert (np.diff(scores) > 0.0).all()
        assert np.abs(scores - truth).mean() < np.abs(expected - truth).mean()
