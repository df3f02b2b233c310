"""The two halves of a captioner as the graph contract wants them, whatever its source.

The encoder ends with the cross-attention keys and values; the decoder keeps its own in a cache
that `TensorScatter` (opset 24) writes in place, at a position of each row's own.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from .sources.base import Source, TextLayer


class EncoderGraph(nn.Module):
    """pixels (B, C, size, size) -> cross_key_0, cross_value_0, … and, if any, draft_levels.

    Keys and values are (B, heads, S, head_dim); draft_levels (B, attributes) start the first draft.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.vision, self.layers, self.guess = source.vision, source.text.layers, source.guess

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features = self.vision(pixels)
        pairs = [cast(TextLayer, layer).cross(features) for layer in self.layers]
        guesses = () if self.guess is None else (self.guess(features),)
        return (*(tensor for pair in pairs for tensor in pair), *guesses)


class DecoderGraph(nn.Module):
    """One pass over T tokens per row; see `engine/README.md` for the contract.

    Inputs: tokens (B, T) int64, start (B,) int64, then cross and past keys and values by layer.
    Outputs: next_tokens (B, T) int64, level_logprobs (B, T, K), present keys and values.
    """

    level_ids: Tensor

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.text, self.length = source.text, source.facts.decoder.max_length
        levels = torch.tensor(source.facts.tokens.levels)
        self.register_buffer("level_ids", levels, persistent=False)

    def forward(
        self, tokens: Tensor, start: Tensor, cross: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        positions = start[:, None] + torch.arange(tokens.shape[1])[None, :]
        slots = torch.arange(self.length)
        mask = (slots[None, None, :] <= positions[:, :, None])[:, None]
        x = self.text.embed(tokens, positions)
        present: list[Tensor] = []
        for i, module in enumerate(self.text.layers):
            layer = cast(TextLayer, module)
            query, new_key, new_value = layer.own(x)
            key = _scatter(past[2 * i], new_key, start)
            value = _scatter(past[2 * i + 1], new_value, start)
            present += [key, value]
            x = layer(x, query, (key, value), mask, (cross[2 * i], cross[2 * i + 1]))
        logits = self.text.head(x)
        levels = logits.log_softmax(-1).index_select(-1, self.level_ids)
        return (logits.argmax(-1), levels, *present)


def _scatter(past: Tensor, new: Tensor, start: Tensor) -> Tensor:
    """Write `new` (B, heads, T, head_dim) into `past` from each row's `start` on."""
    return torch.onnx.ops.symbolic(
        "TensorScatter",
        (past, new, start),
        attrs={"axis": 2, "mode": "linear"},
        dtype=past.dtype,
        shape=past.shape,
        version=24,
    )
