"""Pixels -> caption and level probabilities, for one formed batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .backends.base import Decoder, Graphs
from .decoding.budget import Budget
from .decoding.caption import Decoded, Rules
from .decoding.draft import Drafter
from .decoding.verify import Drafting
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
        accepted: how many of its tokens were drafted.
    """

    text: str
    probabilities: dict[str, NDArray[np.float64]]
    passes: int
    accepted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Captions:
    """A batch's captions, and the seconds that its stages took.

    Attributes:
        rows: a caption for each row of the batch, in its order.
        encode: the encoder's run.
        first_token: the first decoder pass.
        decode: all decoder passes, the first one included.
    """

    rows: list[Caption]
    encode: float
    first_token: float
    decode: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A batch between encoder and decoder. It holds a lane of the graphs until it is released.

    Attributes:
        decoder: over the batch's rows.
        seconds: what encoding took.
    """

    decoder: Decoder
    seconds: float

    def release(self) -> None:
        """Give the lane back without decoding; safe to call twice."""
        self.decoder.release()


class Captioner:
    """Encodes a batch and decodes its captions with template drafts.

    Threads may share it: one encodes while another decodes, and two that do the same take turns.
    """

    def __init__(
        self,
        graphs: Graphs,
        rules: Rules,
        *,
        drafter: Drafter,
        decode: Callable[[Sequence[int]], str],
        attributes: Sequence[str] = ATTRIBUTES,
    ) -> None:
        """Use open graphs.

        Args:
            graphs: closed with the captioner.
            rules: token ids and limits.
            drafter: proposes captions.
            decode: the tokenizer's: ids to text, without special tokens.
            attributes: what captions name, in their order.
        """
        self._graphs = graphs
        self._rules = rules
        self._decode = decode
        self._drafter = drafter
        self._attributes = attributes
        self._budget = Budget()
        self._decoding = threading.Lock()

    def __call__(self, pixels: NDArray[np.float32]) -> Captions:
        """Caption a batch: `encode`, then `decode`."""
        return self.decode(self.encode(pixels))

    def encode(self, pixels: NDArray[np.float32]) -> Encoded:
        """Run the encoder.

        Args:
            pixels: (B, C, size, size) float32; B at most the graphs' largest batch.

        Returns:
            What `decode` takes. At most `backends.base.LANES` of them exist at a time.

        Raises:
            BackendError: the graph failed, or no lane is free.
        """
        begin = time.perf_counter()
        decoder = self._graphs.encode(pixels)
        return Encoded(decoder=decoder, seconds=time.perf_counter() - begin)

    def decode(self, encoded: Encoded) -> Captions:
        """Decode an encoded batch, and release it, also where that fails.

        Raises:
            BackendError: the graph failed, or `encoded` was released before.
        """
        try:
            with self._decoding:
                begin = time.perf_counter()
                drafting = Drafting(encoded.decoder, self._drafter, self._rules, self._budget)
                drafting.advance()
                first = time.perf_counter()
                while not drafting.done:
                    drafting.advance()
                rows = [self._caption(row) for row in drafting.results()]
                end = time.perf_counter()
        finally:
            encoded.release()
        return Captions(
            rows=rows, encode=encoded.seconds, first_token=first - begin, decode=end - begin
        )

    def memory(self) -> dict[str, int]:
        """Bytes that the graphs hold: see `backends.base.Graphs.memory`."""
        return self._graphs.memory()

    def close(self) -> None:
        """Close the graphs; safe to call twice."""
        self._graphs.close()

    def _caption(self, row: Decoded) -> Caption:
        slots = [i for i, token in enumerate(row.tokens) if token in self._rules.levels]
        found = level_probabilities(row.level_logprobs[slots[: len(self._attributes)]])
        named = dict(zip(self._attributes, found, strict=False))
        words = row.tokens[:-1] if row.tokens[-1] == self._rules.end else row.tokens
        return Caption(
            text=self._decode(words),
            probabilities={name: named[name] for name in ATTRIBUTES if name in named},
            passes=row.passes,
            accepted=row.accepted,
        )
