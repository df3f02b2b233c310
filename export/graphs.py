"""The two halves of the captioner as the graph contract wants them.

The encoder ends with the cross-attention keys and values; the decoder keeps its own in a cache
that `TensorScatter` (opset 24) writes in place, at a position of each row's own.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.model import Captioner, DecoderLayer


class EncoderGraph(nn.Module):
    """pixels (B, C, size, size) -> cross_key_0, cross_value_0, … and draft_levels (B, attributes).

    Keys and values are (B, heads, S, head_dim); `draft_levels` start the first draft.
    """

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        cross, guesses = self.model.encode_and_guess(self.model.stem.statistics(pixels))
        return (*(tensor for pair in cross for tensor in pair), guesses.argmax(-1))


class DecoderGraph(nn.Module):
    """One pass over T tokens per row; see `engine/README.md` for the contract.

    Inputs: tokens (B, T) int64, start (B,) int64, then cross and past keys and values by layer.
    Outputs: next_tokens (B, T) int64, level_logprobs (B, T, K), present keys and values.
    """

    level_ids: Tensor

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("level_ids", torch.tensor(model.config.level_ids), persistent=False)

    def forward(
        self, tokens: Tensor, start: Tensor, cross: list[Tensor], past: list[Tensor]
    ) -> tuple[Tensor, ...]:
        positions = start[:, None] + torch.arange(tokens.shape[1])[None, :]
        slots = torch.arange(self.model.config.max_length)
        mask = (slots[None, None, :] <= positions[:, :, None])[:, None]
        x = self.model.words(tokens) + self.model.positions(positions)
        present: list[Tensor] = []
        for i, layer in enumerate(self.model.decoder):
            assert isinstance(layer, DecoderLayer)
            new_key, new_value = layer.own.keys_values(layer.norm1(x))
            key = _scatter(past[2 * i], new_key, start)
            value = _scatter(past[2 * i + 1], new_value, start)
            present += [key, value]
            x = layer(x, key, value, mask, (cross[2 * i], cross[2 * i + 1]))
        logits = self.model.head(self.model.decoder_norm(x))
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
