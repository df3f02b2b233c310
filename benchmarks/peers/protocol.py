"""What the benchmark and its worker processes say to each other; see `worker`.

Standard library and numpy only: workers import this in environments that lack everything else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All that a contestant may need to load.

    Attributes:
        pixels: .npy file of the prepared slices, (N, C, size, size) float32.
        checkpoint: Hugging Face folder or one of the project's own; empty: none.
        bundle: the engine's bundle; empty: none.
        graphs: folder of `baseline_graphs`; empty: none.
        prompt: token ids that every caption starts from.
        end: the token that ends a caption.
        max_length: most tokens of prompt, caption and end together.
        threads: threads of the runtime.
        max_batch: most rows of one run.
        options: the contestant's own.
    """

    pixels: str
    checkpoint: str
    bundle: str
    graphs: str
    prompt: tuple[int, ...]
    end: int
    max_length: int
    threads: int
    max_batch: int
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, line: str) -> Setup:
        """The inverse of `to_json`."""
        fields = json.loads(line)
        return cls(**{**fields, "prompt": tuple(fields["prompt"])})


class Stopwatch:
    """Adds up the seconds spent in one stage of a run."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wrap(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same callable, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begin

        return timed


class Peer(Protocol):
    """One contestant, loaded. Its constructor takes a `Setup`.

    A contestant that drafts may have `passes`, the last run's decoder runs a caption.
    """

    encode: Stopwatch
    """Runs while the picture is encoded; what is left of a run is decoding."""

    def versions(self) -> dict[str, str]:
        """Packages that do the work."""
        ...

    def run(self, pixels: Pixels) -> list[list[int]]:
        """Greedy captions of (B, C, size, size) pixels: ids after the prompt, end included."""
        ...


def cut(rows: list[list[int]], end: int) -> list[list[int]]:
    """Drop whatever follows the end token."""
    return [row[: row.index(end) + 1] if end in row else row for row in rows]


def cross_names(outputs: Iterable[str]) -> list[str]:
    """The encoder's keys and values among its outputs; a draft head's guesses are no peer's."""
    return [name for name in outputs if name.startswith("cross_")]
