"""The words of decoding: what ends a caption (`Rules`) and what it gives (`Decoded`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Token ids and limits of a bundle's captions.

    Attributes:
        prompt: tokens every caption starts from; they are not part of the result.
        end: the token that ends a caption.
        levels: ids of the five level words, bad … excellent.
        max_length: a caption, its prompt and its end included, has at most this many tokens.
    """

    prompt: tuple[int, ...]
    end: int
    levels: tuple[int, ...]
    max_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """One row's caption.

    Attributes:
        tokens: generated ids; the last one is the end token unless the length ran out.
        level_logprobs: (len(tokens), 5) float32: of the level words where each token was chosen.
        passes: decoder runs until the row was done.
        accepted: how many of the tokens were drafted.
    """

    tokens: tuple[int, ...]
    level_logprobs: NDArray[np.float32]
    passes: int
    accepted: int = 0
