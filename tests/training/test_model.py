"""The tokenizer and the captioner."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.template import ATTRIBUTES, caption
from training.model import Captioner, CaptionerConfig, SecondOrderStem, turned
from training.samples import Vocabulary, soft_levels
from training.tokenizer import build_tokenizer

VOCABULARY = Vocabulary.of(build_tokenizer())


def tiny() -> CaptionerConfig:
    """A captioner small enough for tests."""
    return CaptionerConfig(
        vocab_size=VOCABULARY.tokenizer.get_vocab_size(),
        level_ids=VOCABULARY.levels,
        size=128,
        width=32,
        heads=2,
        encoder_layers=1,
        decoder_layers=2,
    )


@given(st.fixed_dictionaries({name: st.integers(0, 4) for name in ATTRIBUTES}))
def test_tokens_give_the_caption_back(levels: dict[str, int]) -> None:
    tokens = VOCABULARY.tokens(levels)
    assert VOCABULARY.tokenizer.decode(tokens) == caption(levels)
    assert len(VOCABULARY.slots(tokens)) == len(ATTRIBUTES)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_turned_statistics_are_those_of_the_turned_slice(
    transpose: bool, flip: bool, mirror: bool
) -> None:
    stem = SecondOrderStem(tiny())
    pixels = torch.rand(1, 3, 128, 128)
    image = pixels.transpose(-1, -2) if transpose else pixels
    image = image.flip([d for d, on in ((-2, flip), (-1, mirror)) if on])
    expected = stem.statistics(image.contiguous())
    found = turned(stem.statistics(pixels), transpose=transpose, flip=flip, mirror=mirror)
    for want, have in zip(expected, found, strict=True):
        torch.testing.assert_close(have, want, atol=1e-5, rtol=1e-5)


def test_save_and_load_give_the_same_captions(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = Captioner(tiny())
    model.save(tmp_path)
    pixels = torch.rand(2, 3, 128, 128)
    want = model.generate(pixels, [VOCABULARY.bos], VOCABULARY.eos)
    assert Captioner.load(tmp_path).generate(pixels, [VOCABULARY.bos], VOCABULARY.eos) == want


def test_soft_levels_keep_the_score() -> None:
    soft = soft_levels(torch.tensor([[0.0, 2.3, 4.0]]).numpy())
    assert soft.sum(-1) == pytest.approx(1.0)
    assert (soft @ [0, 1, 2, 3, 4])[0] == pytest.approx([0.0, 2.3, 4.0])
