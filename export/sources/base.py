"""What the export needs of a captioner, whatever checkpoint it comes from.

An adapter subclasses `Source` and says two things: how the model computes (`vision` and `text`,
which become the graphs), and what it says by its own code (`generate` and `logits`, which the
graphs are held against). The cache, positions, masks, arg-max and level words are the graphs'
business, not the adapter's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from engine.bundle.manifest import DecoderPart, ImagePart, TokensPart
from engine.prepare import Window

from ..errors import CheckpointError

Pair = tuple[Tensor, Tensor]
"""Keys and values, each (B, heads, length, head_dim)."""


class TextLayer(nn.Module, ABC):
    """One decoder layer, cut where the cache comes in."""

    @abstractmethod
    def own(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, T, width) -> query, key and value of the self-attention, (B, heads, T, head_dim)."""

    @abstractmethod
    def cross(self, features: Tensor) -> Pair:
        """(B, S, features) -> keys and values of the cross-attention."""

    @abstractmethod
    def forward(self, x: Tensor, query: Tensor, own: Pair, mask: Tensor, cross: Pair) -> Tensor:
        """The layer's output (B, T, width).

        Args:
            x: (B, T, width), the layer's input.
            query: from `own`.
            own: the whole cache, (B, heads, L_max, head_dim) each.
            mask: (B, 1, T, L_max) bool; True where a query may look.
            cross: from `cross`.
        """


class TextDecoder(nn.Module, ABC):
    """The text half; `layers` holds `TextLayer`s."""

    def __init__(self, layers: Sequence[TextLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    @abstractmethod
    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """(B, T) ids and (B, T) positions -> (B, T, width)."""

    @abstractmethod
    def head(self, x: Tensor) -> Tensor:
        """(B, T, width) -> logits (B, T, vocabulary)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a checkpoint leaves open.

    Attributes:
        prompt: text that every caption starts from ("a picture of"); not part of the caption.
        max_length: most tokens of prompt, caption and end together; None: what the model allows,
            at most 128.
        windows: HU window of each channel, low and high; None: what the checkpoint's
            `training.json` names, else the project's soft tissue, lung and wide window.
    """

    prompt: str = ""
    max_length: int | None = None
    windows: tuple[Window, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the manifest says about the captioner.

    Attributes:
        family: kind of model, as the manifest names it.
        image: how pixels are made.
        decoder: shapes.
        tokens: prompt, end and level words.
        weights: the files that hold the weights; their hash goes into the manifest.
        fp32: module paths (`vision.…`) that FP16 and INT8 graphs keep in FP32, with the reason.
    """

    family: str
    image: ImagePart
    decoder: DecoderPart
    tokens: TokensPart
    weights: tuple[Path, ...]
    fp32: tuple[tuple[str, str], ...] = ()


class Source(ABC):
    """A fine-tuned captioner, in evaluation mode.

    Attributes:
        model: what the checkpoint's own code made of it.
        facts: what goes into the manifest.
        tokenizer: for captions, without truncation and padding.
        vision: pixels (B, C, size, size) float32 -> features (B, S, features).
        text: the decoder.
        guess: features -> each attribute's level before any word, (B, attributes) int64, for the
            first draft; None: the model has no such head (`export.draft_head` may fit one).
    """

    model: Any
    facts: Facts
    tokenizer: Tokenizer
    vision: nn.Module
    text: TextDecoder
    guess: nn.Module | None = None

    def encode(self, text: str) -> list[int]:
        """Ids of a caption, without prompt and end."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    @abstractmethod
    def generate(self, pixels: Tensor) -> list[list[int]]:
        """The model's own greedy captions by the model's own code.

        Args:
            pixels: (B, C, size, size) float32.

        Returns:
            Ids of each row after the prompt, the end token included where it was reached.
        """

    @abstractmethod
    def logits(self, pixels: Tensor, tokens: Tensor) -> Tensor:
        """Teacher-forced, by the model's own code; gradients reach its weights.

        Args:
            pixels: (B, C, size, size) float32.
            tokens: (B, T) int64, prompt first.

        Returns:
            (B, T, vocabulary): after each token.
        """


def split(x: Tensor, heads: int) -> Tensor:
    """(B, T, heads * head_dim) -> (B, heads, T, head_dim)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    query: Tensor, pair: Pair, mask: Tensor | None = None, scale: float | None = None
) -> Tensor:
    """Scaled dot-product attention; heads side by side again: (B, T, heads * head_dim)."""
    mixed = functional.scaled_dot_product_attention(query, *pair, attn_mask=mask, scale=scale)
    return mixed.transpose(1, 2).flatten(2)


def cut(rows: Sequence[Sequence[int]], prompt: int, end: int) -> list[list[int]]:
    """Drop `prompt` tokens of each row, and whatever follows the end token."""
    bare = [list(row[prompt:]) for row in rows]
    return [row[: row.index(end) + 1] if end in row else row for row in bare]


def limit_length(wanted: int | None, allowed: int) -> int:
    """The cache's length: as wanted, if the model has that many positions.

    Raises:
        CheckpointError: it has not.
    """
    if wanted is None:
        return min(128, allowed)
    if not 2 <= wanted <= allowed:
        raise CheckpointError(f"max_length {wanted} is impossible: the model has 2 to {allowed}")
    return wanted
