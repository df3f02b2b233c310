"""CLIP-IQA and CLIP-IQA+ as they are, on a tiny CLIP of random weights."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel

from engine.template import ATTRIBUTES
from training.rivals.__main__ import main
from training.rivals.base import Case, WeightsMissingError
from training.rivals.clip_iqa import PROMPTS, Clip, ClipIqa, fit, sentences


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, 64-pixel patches, letters as tokens."""
    path = tmp_path_factory.mktemp("clip")
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    ends = ["<|startoftext|>", "<|endoftext|>"]
    (path / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate([*words, *ends])}))
    (path / "merges.txt").write_text("#version: 0.2\n")
    torch.manual_seed(3)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = CLIPConfig(
        text_config={
            **small,
            "num_attention_heads": 2,
            "vocab_size": len(words) + 2,
            "bos_token_id": len(words),
            "eos_token_id": len(words) + 1,
            "pad_token_id": len(words) + 1,
        },
        vision_config={**small, "num_attention_heads": 2, "image_size": 128, "patch_size": 64},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(path)
    return path


def test_every_attribute_has_its_antonyms() -> None:
    assert set(PROMPTS) == set(ATTRIBUTES)
    assert len(set(sentences())) == 2 * len(ATTRIBUTES)


def test_fit_is_the_softmax_of_the_pair() -> None:
    """A picture that is the better sentence of every pair scores 4 / (1 + e^(-scale))."""
    texts = torch.eye(10)
    images = texts[::2]
    found = fit(images, texts, 2.0)
    assert found.diagonal() == pytest.approx(4 / (1 + np.exp(-2.0)))
    assert found[0, 1] == pytest.approx(2.0)


def test_slices_of_any_size_are_seen(folder: Path, chest: NDArray[np.float32]) -> None:
    rival = ClipIqa(Clip(folder))
    shapes = (chest, chest[100:400], chest[:300, :300])
    found = rival.scores([Case(name="x", hu=hu) for hu in shapes])
    assert found.shape == (3, len(ATTRIBUTES))
    assert ((found > 0) & (found < 4)).all()
    assert np.ptp(found, axis=0).max() > 0  # no constant, which small pictures gave elsewhere


def test_context_stands_between_start_and_sentence(folder: Path) -> None:
    """Learned vectors equal to the blanks' own embeddings change nothing."""
    clip = Clip(folder)
    blank = clip.tokenizer("x", add_special_tokens=False)["input_ids"]
    words = clip.model.text_model.embeddings.token_embedding.weight[blank].expand(2, 3, -1)
    plain = clip.read([f"x x x {text}" for text in ("good", "a bad one")])
    torch.testing.assert_close(clip.read(["good", "a bad one"], words), plain)
    assert not torch.allclose(clip.read(["good", "a bad one"], words + 1.0), plain)


def test_clip_iqa_runs_by_command(folder: Path, data: Path, tmp_path: Path) -> None:
    assert main(["clip-iqa", str(data), "--clip", str(folder), "--out", str(tmp_path)]) == 0
    assert pd.read_csv(tmp_path / "scores.csv")["overall"].between(0, 4).all()


def test_clip_iqa_plus_learns_and_resumes(folder: Path, data: Path, tmp_path: Path) -> None:
    command = ["clip-iqa-plus", str(data), "--clip", str(folder), "--out", str(tmp_path)]
    assert main([*command, "--steps", "2", "--every", "1", "--batch", "4"]) == 0
    learned = load_file(tmp_path / "model.safetensors")
    assert list(learned) == ["context"]
    assert main([*command, "--steps", "4", "--every", "1", "--batch", "4"]) == 0
    curve = pd.read_csv(tmp_path / "learning-curve.csv")
    assert curve["step"].tolist() == [1, 2, 3, 4]
    assert curve["loss"].iloc[-1] != curve["loss"].iloc[0]


def test_missing_weights_say_how_to_get_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WeightsMissingError, match="hf download"):
        Clip(tmp_path)
    arguments = ["clip-iqa", str(data), "--clip", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(arguments) == 3
    assert "hf download" in capsys.readouterr().err
