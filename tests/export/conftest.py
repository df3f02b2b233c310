"""Captioners with random weights, the graphs of one, and real slices prepared for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.bundle.manifest import DECODER, ENCODER
from engine.prepare import prepare
from export import random_checkpoint, slices, to_onnx
from export.sources.base import Options, Source
from export.sources.detect import open_source
from tests.training.test_model import VOCABULARY, tiny
from training.model import Captioner


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the project's own kind, with random weights."""
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(2)
    model = Captioner(tiny())
    with torch.no_grad():
        model.head.weight.mul_(10.0)  # sure of its words, like a trained one: FP16 breaks ties
    model.save(folder)
    VOCABULARY.tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `BlipForConditionalGeneration` folder."""
    folder = tmp_path_factory.mktemp("blip")
    random_checkpoint.write("blip-tiny", folder)
    return folder


@pytest.fixture(scope="session")
def source(blip: Path) -> Source:
    """The same, opened, with a prompt."""
    return open_source(blip, Options(prompt="Noise level is"))


@pytest.fixture(scope="session")
def graphs(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of its FP32 graphs; copy it before changing anything."""
    folder = tmp_path_factory.mktemp("graphs")
    to_onnx.export_encoder(source, folder / ENCODER)
    to_onnx.export_decoder(source, folder / DECODER)
    return folder


@pytest.fixture(scope="session")
def pixels(source: Source) -> list[NDArray[np.float32]]:
    """The example slices, prepared for it."""
    spec = source.facts.image.spec()
    return [prepare(hu, spec) for hu in slices.read(slices.EXAMPLES).parity]
