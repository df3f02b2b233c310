"""Pixels -> caption and level probabilities, for one formed batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backends.base import Graphs
from .decoding.caption import Decoded, Rules
from .decoding.draft import TemplateDrafter
from .decoding.verify import drafted
from .scoring import level_probabilities
from .template import ATTRIBUTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """What the captioner says about one slice.

    Attributes:
        text: the caption.
        probabilities: attribute -> (5,) float64, bad … excellent; an attribute whose level word
            never came is absent.
        passes: decoder runs this caption took.
    """

    text: str
    probabilities: dict[str, NDArray[np.float64]]
    passes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """A batch's captions, and the seconds that encoding and decoding took."""

    rows: list[Caption]
    encode: float
    decode: float


class Captioner:
    """Encodes a batch and decodes its captions with template drafts."""

    def __init__(
        self,
        graphs: Graphs,
        rules: Rules,
        *,
        encode: Callable[[str], Sequence[int]],
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        """`encode` and `decode` are the tokenizer's two directions, without special tokens."""
        self._graphs = graphs
        self._rules = rules
        self._decode = decode
        self._drafter = TemplateDrafter(encode, rules)

    def __call__(self, pixels: NDArray[np.float32]) -> Captions:
        """Caption a batch.

        Args:
            pixels: (B, C, size, size) float32 in [-1, 1]; B at most the graphs' largest batch.

        Raises:
            BackendError: a graph failed.
        """
        begin = time.perf_counter()
        decoder = self._graphs.encode(pixels)
        encoded = time.perf_counter()
        rows = [self._caption(row) for row in drafted(decoder, self._drafter, self._rules)]
        return Captions(rows=rows, encode=encoded - begin, decode=time.perf_counter() - encoded)

    def close(self) -> None:
        """Close the graphs."""
        self._graphs.close()

    def _caption(self, row: Decoded) -> Caption:
        slots = [i for i, token in enumerate(row.tokens) if token in self._rules.levels]
        found = level_probabilities(row.level_logprobs[slots[: len(ATTRIBUTES)]])
        words = row.tokens[:-1] if row.tokens[-1] == self._rules.end else row.tokens
        return Caption(
            text=self._decode(words),
            probabilities=dict(zip(ATTRIBUTES, found, strict=False)),
            passes=row.passes,
        )
