"""What the engine asks of a runtime: encode a batch, then run the decoder over its rows.

The backend owns every buffer. A `Decoder` is valid until the next `encode` of the same `Graphs`:
both work on the same cross-attention and cache buffers, which exist once, for the largest batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

CacheType = Literal["float32", "float16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphShapes:
    """The sizes of a bundle's graphs.

    `source_length` is S, the encoder's tokens; `max_length` is L_max, the cache's positions;
    `cache` is the type of all keys and values.
    """

    channels: int
    size: int
    layers: int
    heads: int
    head_dim: int
    max_length: int
    source_length: int
    cache: CacheType = "float32"


class Decoder(Protocol):
    """A decoder over the rows of one encoded batch; it keeps the keys and values of each row."""

    @property
    def rows(self) -> int:
        """B, the number of rows."""
        ...

    @property
    def guesses(self) -> NDArray[np.int64] | None:
        """(B, attributes) levels that the encoder expects, for the first draft; None: no guess."""
        ...

    def step(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Run T tokens per row, written into the cache from `start` on.

        Token t of a row sees the row's positions up to start + t; later ones are ignored and may
        be overwritten, so going back is done by giving a smaller `start`.

        Args:
            tokens: (B, T) token ids.
            start: (B,) position of each row's first token; start + T must not pass L_max.

        Returns:
            next_tokens (B, T): the model's arg-max after each token; level_logprobs (B, T, 5).

        Raises:
            BackendError: the run failed or gave no numbers.
        """
        ...


class Graphs(Protocol):
    """The opened encoder and decoder of a bundle."""

    def encode(self, pixels: NDArray[np.float32]) -> Decoder:
        """Encode (B, C, size, size) pixels; the decoder starts with an empty cache.

        Raises:
            BackendError: the run failed, or B is 0 or larger than the batch opened for.
        """
        ...

    def close(self) -> None:
        """Give the runtime's memory back."""
        ...
