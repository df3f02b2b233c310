"""The quality benchmark end to end on a small data set, and its measures by known answers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from benchmarks.quality.__main__ import main
from benchmarks.quality.captions import caption_measures
from benchmarks.quality.measures import agree, ceiling, paired, reliability
from engine import Engine
from engine.template import ATTRIBUTES, caption
from tests.support import dataset
from training.evaluate import resamples
from training.finetune import main as finetune
from training.rivals.__main__ import main as rival

Slice = NDArray[np.float32]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, chest: Slice) -> Path:
    folder = tmp_path_factory.mktemp("quality") / "data"
    dataset.write(folder, [chest])
    return folder


def last_line(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_everything_is_measured_and_written(
    data: Path, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("psnr", "blur-effect"):
        assert rival([name, str(data), "--out", str(tmp_path / name)]) == 0
    out = tmp_path / "out"
    arguments = [str(data), "--rounds", "50", "--stress", "1", "--out", str(out)]
    arguments += [f"--rival={name}={tmp_path / name}" for name in ("psnr", "blur-effect")]
    assert main(arguments) == 0
    result = last_line(capsys)
    assert json.loads((out / "quality.json").read_text()) == result
    assert result["slices"] == 15
    assert set(result["rivals"]) == set(result["paired"]) == {"psnr", "blur-effect"}
    assert set(result["series"]) == {"dose", "views", "blur"}
    assert {"turned 90", "matrix 256", "sharper kernel"} <= set(result["moved"])
    assert all(0.0 <= found["flagged"] <= 1.0 for found in result["moved"].values())
    assert result["outsiders"]["picture (0 to 255)"]["errors"] == 1.0
    assert set(result["groups"]) == {"degradation", "body part", "patient"}
    assert result["groups"]["degradation"]["nothing done"]["overall"]["n"] == 3
    page = (out / "quality.md").read_text()
    for picture in ("scatter.png", "reliability.png", "curves.png"):
        assert picture in page
        assert (out / picture).is_file()
    assert "this engine" in page

    rows = pd.read_csv(data / "manifest.csv").query("split == 'test'")
    slices = [np.load(data / name) for name in rows["file"]]
    values = [item.scores["sharpness"].value for item in engine.assess(slices)]
    expected = stats.pearsonr(values, rows["sharpness"])[0]
    assert result["agreement"]["sharpness"]["plcc"] == pytest.approx(expected, abs=1e-3)


def test_a_stale_rival_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rival(["psnr", str(data), "--out", str(tmp_path / "psnr")]) == 0
    about = tmp_path / "psnr" / "rival.json"
    about.write_text(json.dumps({"rows_sha256": "of another data set"}))
    arguments = [str(data), "--slices", "4", "--stress", "0", "--rounds", "5"]
    assert main([*arguments, f"--rival=psnr={tmp_path / 'psnr'}"]) == 2
    assert "other rows" in capsys.readouterr().err
    assert main([*arguments, f"--rival=psnr={tmp_path / 'none'}"]) == 3
    assert "training.rivals" in capsys.readouterr().err


@pytest.fixture
def challenge(tmp_path: Path, chest: Slice) -> Path:
    """The exact layout of LDCTIQAC 2023: image/*.tif, float 0…1, 512 x 512, and train.json."""
    folder = tmp_path / "ldctiqac"
    (folder / "image").mkdir(parents=True)
    rng, scores = np.random.default_rng(0), {}
    for i in range(60):
        hu = chest + rng.standard_normal(chest.shape) * 12.0 * (i % 5)
        shown = np.clip((hu + 135.0) / 350.0, 0.0, 1.0).astype(np.float32)
        Image.fromarray(shown).save(folder / f"image/{i:04d}.tif")
        scores[f"{i:04d}.tif"] = round(4.0 - 0.8 * (i % 5), 1)
    (folder / "train.json").write_text(json.dumps(scores))
    return folder


def test_the_challenge_s_protocol(challenge: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(challenge), "--protocol", "ldctiqac2023"]) == 0
    result = last_line(capsys)
    figures = result["overall"]
    assert result["slices"] == 60
    assert result["score"] == pytest.approx(
        sum(abs(figures[key]) for key in ("plcc", "srocc", "krocc"))
    )
    assert 0.0 <= result["score"] <= 3.0


def test_finetune_on_human_scores_runs_to_the_end(
    challenge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "human"
    arguments = [str(challenge), "--out", str(out), "--batch", "2", "--every", "1"]
    assert finetune([*arguments, "--steps", "2"]) == 0
    assert "| overall |" in capsys.readouterr().out
    assert json.loads((out / "training.json").read_text())["score_origin"] == "human readers"


finite = st.lists(st.floats(0, 4), min_size=3, max_size=40)


@given(finite, st.integers(0, 2**32 - 1))
def test_measures_stay_within_their_ranges(values: list[float], seed: int) -> None:
    truth = np.array(values)
    said = np.clip(truth + np.random.default_rng(seed).normal(0, 0.5, len(truth)), 0, 4)
    found = agree(said, truth)
    assert 0 <= found["mae"] <= found["rmse"] + 1e-12
    assert 0 <= found["level_accuracy"] <= 1
    for key in ("plcc", "srocc", "krocc", "kappa"):
        assert np.isnan(found[key]) or -1.0 - 1e-9 <= found[key] <= 1.0 + 1e-9
    itself = agree(truth, truth)
    assert (itself["rmse"], itself["level_accuracy"]) == (0.0, 1.0)


def test_nan_is_no_opinion() -> None:
    truth = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    said = np.array([0.0, np.nan, 2.0, 3.0, 4.0])
    assert agree(said, truth)["n"] == 4
    assert agree(np.full(5, np.nan), truth) == {"n": 0.0}


def test_paired_bootstrap_knows_who_is_better() -> None:
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 4, (120, len(ATTRIBUTES)))
    patients = np.repeat(np.arange(12), 10).astype(str)
    good, poor = (truth + rng.normal(0, s, truth.shape) for s in (0.2, 1.0))
    samples = resamples(patients, 100)
    assert all(set(patients[rows]) <= set(patients) and len(rows) == 120 for rows in samples)
    found = paired(good, poor, truth, samples)["overall"]
    assert 0 < found["plcc_low"] < found["plcc"] < found["plcc_high"]
    same = paired(good, good, truth, samples)["overall"]
    assert same["plcc_low"] == same["plcc"] == same["plcc_high"] == 0.0


def test_ceiling_is_one_for_readers_who_agree() -> None:
    truth = np.random.default_rng(0).uniform(0, 4, (30, len(ATTRIBUTES)))
    found = ceiling(np.stack([truth] * 5))
    assert found["overall"]["plcc"] == pytest.approx(1.0)
    noisy = truth + np.random.default_rng(1).normal(0, 1.0, (5, *truth.shape))
    assert 0.5 < ceiling(noisy)["overall"]["plcc"] < 0.9


def test_reliability_of_honest_and_of_boastful_confidence() -> None:
    """Level right with the probability it states: ECE near 0; always sure, half right: 0.5."""
    rng = np.random.default_rng(0)
    n, a = 4000, len(ATTRIBUTES)
    truth = rng.integers(0, 5, (n, a)).astype(float)
    for top, expected in ((0.5, 0.0), (1.0, 0.5)):
        right = rng.random((n, a)) < 0.5
        shown = np.where(right, truth, (truth + 1) % 5).astype(int)
        probabilities = np.full((n, a, 5), (1.0 - top) / 4)
        np.put_along_axis(probabilities, shown[..., None], top, axis=-1)
        found = reliability(shown.astype(float), rng.random((n, a)), probabilities, truth)
        assert found["ece"] == pytest.approx(expected, abs=0.02)
        assert len(found["bins"]) == 10


def test_captions_by_known_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [dict.fromkeys(ATTRIBUTES, level) for level in range(5)]
    texts = [caption(level) for level in levels]
    monkeypatch.setenv("PATH", "")
    same = caption_measures(texts, texts)
    assert same["exact"] == 1.0
    assert same["bleu4"] == pytest.approx(1.0)
    assert same["rouge_l"] == pytest.approx(1.0)
    assert same["cider"] == pytest.approx(10.0)
    assert "Java" in str(same["meteor"])
    other = caption_measures(texts, texts[1:] + texts[:1])
    assert other["exact"] == 0.0
    assert float(other["bleu4"]) < 0.8


@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR is a Java program")
def test_meteor_of_equal_captions_is_one() -> None:
    texts = [caption(dict.fromkeys(ATTRIBUTES, level)) for level in range(5)]
    assert caption_measures(texts, texts)["meteor"] == pytest.approx(1.0)
