"""Decoder layers of BERT's kind (BLIP's text decoder too) and of GPT-2's, cut at the cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .base import Pair, TextDecoder, TextLayer, attend, split


class BertLayer(TextLayer):
    """Norms after the residuals; attention split into `self` and `output`."""

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        self.layer, self.heads = layer, heads

    def own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        own = self.layer.attention.self
        query, key, value = (split(f(x), self.heads) for f in (own.query, own.key, own.value))
        return query, key, value

    def cross(self, features: Tensor) -> Pair:
        other = self.layer.crossattention.self
        return split(other.key(features), self.heads), split(other.value(features), self.heads)

    def forward(self, x: Tensor, query: Tensor, own: Pair, mask: Tensor, cross: Pair) -> Tensor:
        layer = self.layer
        x = layer.attention.output(attend(query, own, mask), x)
        asked = split(layer.crossattention.self.query(x), self.heads)
        x = layer.crossattention.output(attend(asked, cross), x)
        result: Tensor = layer.output(layer.intermediate(x), x)
        return result


class BertText(TextDecoder):
    """`BlipTextLMHeadModel` or `BertLMHeadModel`."""

    def __init__(self, model: Any) -> None:
        heads = model.config.num_attention_heads
        super().__init__([BertLayer(layer, heads) for layer in model.bert.encoder.layer])
        self.embeddings, self.cls = model.bert.embeddings, model.cls

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        x = self.embeddings.word_embeddings(tokens)
        if hasattr(self.embeddings, "token_type_embeddings"):  # BERT has them, BLIP has not
            x = x + self.embeddings.token_type_embeddings.weight[0]
        result: Tensor = self.embeddings.LayerNorm(
            x + self.embeddings.position_embeddings(positions)
        )
        return result

    def head(self, x: Tensor) -> Tensor:
        result: Tensor = self.cls(x)
        return result


class Gpt2Layer(TextLayer):
    """Norms before; queries, keys and values from one projection."""

    def __init__(self, layer: Any, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2, self.norm3 = layer.ln_1, layer.ln_cross_attn, layer.ln_2
        self.own_in, self.own_out = _linear(layer.attn.c_attn), _linear(layer.attn.c_proj)
        other = layer.crossattention
        self.cross_query, self.cross_in = _linear(other.q_attn), _linear(other.c_attn)
        self.cross_out = _linear(other.c_proj)
        self.scale, self.cross_scale = float(layer.attn.scaling), float(other.scaling)
        self.mlp = nn.Sequential(_linear(layer.mlp.c_fc), layer.mlp.act, _linear(layer.mlp.c_proj))

    def own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value = self.own_in(self.norm1(x)).chunk(3, -1)
        return split(query, self.heads), split(key, self.heads), split(value, self.heads)

    def cross(self, features: Tensor) -> Pair:
        key, value = self.cross_in(features).chunk(2, -1)
        return split(key, self.heads), split(value, self.heads)

    def forward(self, x: Tensor, query: Tensor, own: Pair, mask: Tensor, cross: Pair) -> Tensor:
        x = x + self.own_out(attend(query, own, mask, self.scale))
        asked = split(self.cross_query(self.norm2(x)), self.heads)
        x = x + self.cross_out(attend(asked, cross, None, self.cross_scale))
        result: Tensor = x + self.mlp(self.norm3(x))
        return result


class PositionedText(TextDecoder):
    """Learned positions added to the words, one norm before the head."""

    def __init__(
        self,
        layers: Sequence[TextLayer],
        *,
        words: nn.Module,
        positions: nn.Module,
        norm: nn.Module,
        out: nn.Module,
    ) -> None:
        super().__init__(layers)
        self.words, self.positions, self.norm, self.out = words, positions, norm, out

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        result: Tensor = self.words(tokens) + self.positions(positions)
        return result

    def head(self, x: Tensor) -> Tensor:
        result: Tensor = self.out(self.norm(x))
        return result


class Gpt2Text(PositionedText):
    """`GPT2LMHeadModel` with cross-attention."""

    def __init__(self, model: Any) -> None:
        heads, body = model.config.num_attention_heads, model.transformer
        super().__init__(
            [Gpt2Layer(layer, heads) for layer in body.h],
            words=body.wte,
            positions=body.wpe,
            norm=body.ln_f,
            out=model.lm_head,
        )


def _linear(transposed: Any) -> nn.Linear:
    """GPT-2's `Conv1D` keeps its weight the other way round; the same numbers, not copied."""
    rows, columns = transposed.weight.shape
    linear = nn.Linear(rows, columns, device="meta")
    linear.weight = nn.Parameter(transposed.weight.detach().T)
    linear.bias = nn.Parameter(transposed.bias.detach())
    return linear
