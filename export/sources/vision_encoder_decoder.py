"""A Hugging Face `VisionEncoderDecoderModel` folder: ViT or DeiT with GPT-2 or BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import VisionEncoderDecoderModel

from engine.bundle.manifest import DecoderPart, TokensPart

from ..errors import CheckpointError
from .base import Facts, Options, Source, TextDecoder, cut, limit_length
from .huggingface import (
    check_greedy,
    image_part,
    load_model,
    one_id,
    read_tokenizer,
    weight_files,
)
from .text_layers import BertText, Gpt2Text
from .words import level_ids

_ENCODERS: Final = ("vit", "deit")
_DECODERS: Final[dict[str, type[BertText | Gpt2Text]]] = {"bert": BertText, "gpt2": Gpt2Text}
_NORMALISATION: Final = ([0.5] * 3, [0.5] * 3)


class EncoderVision(nn.Module):
    """The encoder's last hidden state, projected to the decoder's width where that differs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.encoder
        self.projection = getattr(model, "enc_to_dec_proj", nn.Identity())

    def forward(self, pixels: Tensor) -> Tensor:
        result: Tensor = self.projection(self.encoder(pixel_values=pixels).last_hidden_state)
        return result


class VisionEncoderDecoderSource(Source):
    """Starts a caption with `decoder_start_token_id` and ends it with `eos_token_id`."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Read the folder.

        Raises:
            CheckpointError: it cannot be exported; the message says why.
        """
        self.model = load_model(VisionEncoderDecoderModel, folder)
        check_greedy(self.model.generation_config)
        self.tokenizer = read_tokenizer(folder)
        self.vision, self.text = EncoderVision(self.model), self._text()
        self.facts = self._facts(folder, options)

    def _text(self) -> TextDecoder:
        """The decoder, if both halves are of a kind that is known here."""
        encoder, decoder = self.model.config.encoder, self.model.config.decoder
        if encoder.model_type not in _ENCODERS or decoder.model_type not in _DECODERS:
            raise CheckpointError(
                f"{encoder.model_type} + {decoder.model_type}: known are "
                f"{', '.join(_ENCODERS)} with {', '.join(_DECODERS)}; export/README.md says how to "
                "write an adapter"
            )
        if not decoder.add_cross_attention:
            raise CheckpointError(
                "the decoder has no cross-attention (decoder.add_cross_attention is false), so it "
                "cannot see the picture; fine-tune with it switched on"
            )
        return _DECODERS[decoder.model_type](self.model.decoder)

    def _facts(self, folder: Path, options: Options) -> Facts:
        encoder, decoder = self.model.config.encoder, self.model.config.decoder
        settings = self.model.generation_config
        first = settings.decoder_start_token_id
        if first is None:
            first = settings.bos_token_id
        words = self.tokenizer.encode(options.prompt, add_special_tokens=False).ids
        heads, size = decoder.num_attention_heads, encoder.image_size
        return Facts(
            family=f"vision-encoder-decoder ({encoder.model_type} + {decoder.model_type})",
            image=image_part(folder, size, encoder.num_channels, _NORMALISATION, options),
            decoder=DecoderPart(
                layers=decoder.num_hidden_layers,
                heads=heads,
                head_dim=decoder.hidden_size // heads,
                max_length=limit_length(options.max_length, decoder.max_position_embeddings),
                source_length=(size // encoder.patch_size) ** 2 + self._extra_tokens(),
                vocab_size=decoder.vocab_size,
            ),
            tokens=TokensPart(
                prompt=[one_id(first, "decoder_start_token_id"), *words],
                end=one_id(settings.eos_token_id, "eos_token_id"),
                levels=level_ids(self.tokenizer),
            ),
            weights=weight_files(folder),
        )

    def _extra_tokens(self) -> int:
        """Beside the patches: the class token, and DeiT's distillation token."""
        return 2 if self.model.config.encoder.model_type == "deit" else 1

    @torch.no_grad()
    def generate(self, pixels: Tensor) -> list[list[int]]:
        tokens, length = self.facts.tokens, self.facts.decoder.max_length
        rows = self.model.generate(
            pixel_values=pixels,
            decoder_input_ids=torch.tensor([tokens.prompt] * len(pixels)),
            max_new_tokens=length - len(tokens.prompt),
            num_beams=1,
            do_sample=False,
            pad_token_id=int(tokens.end == 0),  # behind a row's end; any id that does not end one
        )
        return cut(rows.tolist(), len(tokens.prompt), tokens.end)

    def logits(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        result: Tensor = self.model(pixel_values=pixels, decoder_input_ids=tokens).logits
        return result
