"""The project's own small captioner (`training.model`)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from engine.bundle.manifest import DecoderPart, ImagePart, TokensPart, WindowPart
from training.model import Captioner, DecoderLayer, image_spec

from ..errors import CheckpointError
from .base import Facts, Options, Pair, Source, TextLayer, attend, cut
from .text_layers import PositionedText

SENSITIVE = (
    ("vision.statistics", "stem amplitudes: squared filter responses span more than FP16 does"),
    ("vision.model.stem", "first layers over the amplitudes: most of INT8's error comes from them"),
)


class SmallVision(nn.Module):
    """pixels -> image tokens; the statistics keep a module path of their own."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model
        self.statistics = _Statistics(model)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model.features(self.statistics(pixels))


class _Statistics(nn.Module):
    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.stem = model.stem

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.stem.statistics(pixels)


class SmallGuess(nn.Module):
    """The draft head's best level of every attribute."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        return self.model.guess(features).argmax(-1)


class SmallLayer(TextLayer):
    """Pre-norm layer of `training.model`."""

    def __init__(self, layer: DecoderLayer) -> None:
        super().__init__()
        self.layer = layer

    def own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        attention, normed = self.layer.own, self.layer.norm1(x)
        return attention.split(attention.query(normed)), *attention.keys_values(normed)

    def cross(self, features: Tensor) -> Pair:
        return self.layer.cross.keys_values(features)

    def forward(self, x: Tensor, query: Tensor, own: Pair, mask: Tensor, cross: Pair) -> Tensor:
        layer = self.layer
        x = x + layer.own.out(attend(query, own, mask))
        x = x + layer.cross(layer.norm2(x), *cross)
        result: Tensor = x + layer.mlp(layer.norm3(x))
        return result


class SmallText(PositionedText):
    """The small captioner's decoder."""

    def __init__(self, model: Captioner) -> None:
        super().__init__(
            [SmallLayer(cast(DecoderLayer, layer)) for layer in model.decoder],
            words=model.words,
            positions=model.positions,
            norm=model.decoder_norm,
            out=model.head,
        )


class SmallSource(Source):
    """A folder written by `training.finetune`."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Read the folder.

        Raises:
            CheckpointError: config and weights disagree, or an option does not apply.
        """
        if options.prompt or options.max_length or options.windows:
            raise CheckpointError(
                "the small captioner has its prompt, length and windows fixed in training; "
                "leave these options away"
            )
        try:
            self.model = Captioner.load(folder)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder}: config.json and model.safetensors do not fit this version's model; "
                f"train again with python -m training.finetune. {error}"
            ) from error
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.vision, self.text = SmallVision(self.model), SmallText(self.model)
        self.guess = SmallGuess(self.model)
        self.facts = self._facts(folder)

    def _facts(self, folder: Path) -> Facts:
        c, vocabulary = self.model.config, self.tokenizer.get_vocab()
        windows = [WindowPart(low=w.low, high=w.high) for w in image_spec(c.size).windows]
        return Facts(
            family="iqagpt-small",
            image=ImagePart(size=c.size, windows=windows),
            decoder=DecoderPart(
                layers=c.decoder_layers,
                heads=c.heads,
                head_dim=c.head_dim,
                max_length=c.max_length,
                source_length=c.grid**2,
                vocab_size=c.vocab_size,
            ),
            tokens=TokensPart(
                prompt=[vocabulary["[BOS]"]], end=vocabulary["[EOS]"], levels=list(c.level_ids)
            ),
            weights=(folder / "model.safetensors",),
            fp32=SENSITIVE,
        )

    @torch.no_grad()
    def generate(self, pixels: Tensor) -> list[list[int]]:
        tokens = self.facts.tokens
        rows = self.model.generate(pixels, tokens.prompt, tokens.end)
        return cut(rows, 0, tokens.end)

    def logits(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        return self.model.decode(tokens, self.model.encode(pixels))
