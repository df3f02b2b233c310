"""A Hugging Face `BlipForConditionalGeneration` folder, of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import BlipForConditionalGeneration

from engine.bundle.manifest import DecoderPart, TokensPart

from .base import Facts, Options, Source, attend, cut, limit_length, split
from .huggingface import (
    image_part,
    load_model,
    one_id,
    read_tokenizer,
    weight_files,
)
from .text_layers import BertText
from .words import level_ids

_NORMALISATION: Final = (
    [0.48145466, 0.4578275, 0.40821073],
    [0.26862954, 0.26130258, 0.27577711],
)
"""What BLIP's image processor does if a folder does not say."""


class BlipVision(nn.Module):
    """The vision transformer; its attention as one operator instead of a dozen.

    Query, key and value come from products of their own: taking one packed product apart again
    costs a twentieth of an INT8 encoder's time.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.parts = nn.ModuleList(_parts(layer.self_attn.qkv) for layer in model.encoder.layers)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.model.embeddings(pixels)
        for layer, parts in zip(self.model.encoder.layers, self.parts, strict=True):
            x = x + self._attention(layer.self_attn, parts, layer.layer_norm1(x))
            x = x + layer.mlp(layer.layer_norm2(x))
        result: Tensor = self.model.post_layernorm(x)
        return result

    @staticmethod
    def _attention(block: Any, parts: Any, x: Tensor) -> Tensor:
        query, key, value = (split(part(x), block.num_heads) for part in parts)
        result: Tensor = block.projection(attend(query, (key, value), None, block.scale))
        return result


def _parts(packed: Any) -> nn.ModuleList:
    """One packed linear layer -> three that share its weights."""
    parts = nn.ModuleList()
    for weight, bias in zip(packed.weight.chunk(3), packed.bias.chunk(3), strict=True):
        part = nn.Linear(packed.in_features, packed.out_features // 3, device="meta")
        part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
        parts.append(part)
    return parts


class BlipSource(Source):
    """BLIP starts a caption with its own BOS token ([DEC]) and ends it with [SEP].

    Its `generate` looks into no generation_config.json, so a folder alone always means greedy.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        """Read the folder.

        Raises:
            CheckpointError: it cannot be exported; the message says why.
        """
        self.model = load_model(BlipForConditionalGeneration, folder)
        self.tokenizer = read_tokenizer(folder)
        self.vision, self.text = (
            BlipVision(self.model.vision_model),
            BertText(self.model.text_decoder),
        )
        self.facts = self._facts(folder, options)

    def _facts(self, folder: Path, options: Options) -> Facts:
        vision, text = self.model.config.vision_config, self.model.config.text_config
        words = self.tokenizer.encode(options.prompt, add_special_tokens=False).ids
        size = vision.image_size
        return Facts(
            family="blip",
            image=image_part(folder, size, 3, _NORMALISATION, options),
            decoder=DecoderPart(
                layers=text.num_hidden_layers,
                heads=text.num_attention_heads,
                head_dim=text.hidden_size // text.num_attention_heads,
                max_length=limit_length(options.max_length, text.max_position_embeddings),
                source_length=(size // vision.patch_size) ** 2 + 1,
                vocab_size=text.vocab_size,
            ),
            tokens=TokensPart(
                prompt=[one_id(text.bos_token_id, "text_config.bos_token_id"), *words],
                end=one_id(text.sep_token_id, "text_config.sep_token_id"),
                levels=level_ids(self.tokenizer),
            ),
            weights=weight_files(folder),
        )

    @torch.no_grad()
    def generate(self, pixels: Tensor) -> list[list[int]]:
        tokens, length = self.facts.tokens, self.facts.decoder.max_length
        # BLIP overwrites the first id of its prompt by BOS and drops the last one, where the
        # tokenizer's [CLS] and [SEP] stand.
        prompt = torch.tensor([[*tokens.prompt, tokens.end]] * len(pixels))
        rows = self.model.generate(
            pixel_values=pixels,
            input_ids=prompt,
            max_new_tokens=length - len(tokens.prompt),
            num_beams=1,
            do_sample=False,
        )
        return cut(rows.tolist(), len(tokens.prompt), tokens.end)

    def logits(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        result: Tensor = self.model(pixel_values=pixels, input_ids=tokens).logits
        return result
