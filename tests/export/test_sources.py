"""Every kind of checkpoint is read, and a bad one is refused with the remedy."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from string import ascii_letters
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models

from engine.prepare import Window
from export import random_checkpoint
from export.about import About
from export.about import read as read_about
from export.errors import CheckpointError
from export.sources.base import Options
from export.sources.detect import open_source
from tests.export.checkpoints import deit_bert


@pytest.fixture
def copy(blip: Path, tmp_path: Path) -> Path:
    """A copy of the BLIP folder to break."""
    return Path(shutil.copytree(blip, tmp_path / "copy"))


def edit(file: Path, **changes: Any) -> None:
    found = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**found, **changes}))


def pickled(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")


def smaller_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 128
    edit(folder / "config.json", **config)


def fewer_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if "crossattention" in name))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def split_level(folder: Path) -> None:
    letters = Tokenizer(models.BPE({letter: i for i, letter in enumerate(ascii_letters)}, []))
    letters.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: (f / "config.json").unlink(), r"lacks config\.json: .*save_pretrained"),
        (lambda f: (f / "config.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
        (lambda f: edit(f / "config.json", architectures=["Blip3"]), "unknown architecture Blip3"),
        (lambda f: (f / "model.safetensors").unlink(), "no weights"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x08" + bytes(20)), "cannot be loaded"),
        (lambda f: (f / "tokenizer.json").unlink(), r"no tokenizer; .*save_pretrained"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer of .* cannot be read"),
        (pickled, r"pytorch_model\.bin is a pickle"),
        (smaller_config, "disagree|cannot be loaded"),
        (lambda f: edit(f / "config.json", text_config=7), "cannot be loaded|disagree"),
        (fewer_weights, r"disagree: 1 missing keys, e\.g\. .*crossattention"),
        (split_level, "level word 'bad' as .*must be one token"),
        *(
            (
                lambda f, said=said: edit(f / "preprocessor_config.json", **said),
                "image processor's file does not fit 3 channels",
            )
            for said in ({"resample": 5}, {"image_mean": [0.5]}, {"image_std": [0, 0, 0]})
        ),
    ],
)
def test_a_bad_checkpoint_is_refused_with_the_remedy(
    copy: Path, break_it: Callable[[Path], object], message: str
) -> None:
    break_it(copy)
    with pytest.raises(CheckpointError, match=message):
        open_source(copy)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)
SHAPE = ("vocab_size", "level_ids", "size", "width", "heads", "max_length", "architectures")


@given(
    config=st.dictionaries(st.sampled_from(SHAPE) | st.text(), VALUES, max_size=6),
    about=VALUES.map(json.dumps) | st.text(),
)
@settings(max_examples=50, deadline=None)
def test_no_configuration_is_anything_but_a_checkpoint_error(config: Any, about: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "model.safetensors").write_bytes(bytes(8))
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(CheckpointError):
            open_source(folder)
        (folder / "training.json").write_bytes(about.encode("utf-8", "surrogatepass"))
        with contextlib.suppress(CheckpointError):
            assert isinstance(read_about(folder), About)


def test_what_no_arg_max_can_reproduce_is_refused(tmp_path: Path) -> None:
    deit_bert(tmp_path)
    edit(tmp_path / "generation_config.json", repetition_penalty=1.5)
    with pytest.raises(CheckpointError, match=r"not greedy decoding \(repetition_penalty=1\.5\)"):
        open_source(tmp_path)


def test_the_conversion_of_a_pickle_works_as_printed(copy: Path) -> None:
    before = load_file(copy / "model.safetensors")
    pickled(copy)
    with pytest.raises(CheckpointError) as caught:
        open_source(copy)
    lines = str(caught.value).partition(":\n")[2]
    subprocess.run([sys.executable, "-c", lines], cwd=copy, check=True)
    after = load_file(copy / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert open_source(copy).facts.family == "blip"


def test_options_that_cannot_be_are_refused(blip: Path) -> None:
    with pytest.raises(CheckpointError, match="2 windows for 3 channels"):
        open_source(blip, Options(windows=(Window(low=-160, high=240),) * 2))
    with pytest.raises(CheckpointError, match="the model has 2 to 128"):
        open_source(blip, Options(max_length=129))


def test_windows_and_normalisation_are_the_checkpoints(copy: Path) -> None:
    windows = [[-100, 100], [-200, 200], [-300, 300]]
    edit(copy / "training.json", windows=windows)
    edit(copy / "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3], image_std=[1, 1, 1])
    image = open_source(copy).facts.image
    assert [[w.low, w.high] for w in image.windows] == windows
    assert [w.mean for w in image.windows] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize("kind", ["vit-gpt2-tiny", "deit-bert"])
def test_vision_encoder_decoder(kind: str, tmp_path: Path) -> None:
    """The pieces that become graphs compute what the model's own code computes."""
    if kind == "deit-bert":
        deit_bert(tmp_path)
    else:
        random_checkpoint.write(kind, tmp_path)
    source = open_source(tmp_path)
    facts, tokens = source.facts, torch.tensor([[*source.facts.tokens.prompt, 7, 8, 9]] * 2)
    torch.manual_seed(0)
    pixels = torch.randn(2, 3, facts.image.size, facts.image.size)
    with torch.no_grad():
        features = source.vision(pixels)
        assert features.shape[1] == facts.decoder.source_length
        x = source.text.embed(tokens, torch.arange(tokens.shape[1]).expand(2, -1))
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).tril()[None, None]
        for layer in source.text.layers:
            query, key, value = layer.own(x)
            x = layer(x, query, (key, value), mask, layer.cross(features))
        mine = source.text.head(x)
    assert torch.allclose(mine, source.logits(pixels, tokens), atol=1e-4)
    assert all(0 < len(row) <= facts.decoder.max_length for row in source.generate(pixels))
