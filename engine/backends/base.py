"""What the engine asks of a runtime: encode a batch, then run the decoder over its rows.

The backend owns every buffer. Keys, values and cache of a batch lie in a *lane*; there are `LANES`
of them, made once for the largest batch, so that one batch may encode while another decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

CacheType = Literal["float32", "float16"]
MemoryKind = Literal["host", "device"]

LANES: Final = 2


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
    """A decoder over the rows of one encoded batch; it holds a lane until `release`."""

    @property
    def rows(self) -> int:
        """B, the number of rows."""
        ...

    @property
    def guesses(self) -> NDArray[np.int64] | None:
        """(B, slots) levels that the encoder expects, for the first draft; None: no guess."""
        ...

    def step(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Run T tokens on each of the leading R rows, written into the cache from `start` on.

        Token t of a row sees the row's positions up to start + t; later ones are ignored and may
        be overwritten, so going back is done by giving a smaller `start`.

        Args:
            tokens: (R, T) token ids, 1 ≤ R ≤ B.
            start: (R,) position of each row's first token; start + T must not pass L_max.

        Returns:
            next_tokens (R, T): the model's arg-max after each token; level_logprobs (R, T, 5).
            Both are the caller's to keep.

        Raises:
            BackendError: the run failed or gave no numbers, or the lane was released.
        """
        ...

    def move(self, source: int, target: int) -> None:
        """Let row `source` take the place of row `target`, which is given up.

        Finished rows leave a batch so: the last row under way takes their place, and `step` runs
        fewer leading rows.
        """
        ...

    def release(self) -> None:
        """Give the lane back; safe to call twice."""
        ...


class Graphs(Protocol):
    """The opened encoder and decoder of a bundle.

    One thread may encode while another decodes; two that do the same take turns.
    """

    def encode(self, pixels: NDArray[np.float32]) -> Decoder:
        """Encode (B, C, size, size) pixels into a free lane; its cache starts empty.

        Raises:
            BackendError: the run failed, B is 0 or larger than the batch opened for, or no lane
                is free because that many decoders were not released.
        """
        ...

    def memory(self) -> dict[str, int]:
        """Bytes held: "host" and "device"; buffers exactly, weights by the size of their files."""
        ...

    def close(self) -> None:
        """Give the runtime's memory back; safe to call twice."""
        ...
