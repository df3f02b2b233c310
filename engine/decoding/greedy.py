"""Plain greedy decoding, one token per pass: the definition of what is right."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Decoder
from .caption import Decoded, Rules


def greedy(decoder: Decoder, rules: Rules) -> list[Decoded]:
    """Caption every row of an encoded batch by taking the model's arg-max, token after token.

    Raises:
        BackendError: a decoder run failed.
    """
    rows, start = decoder.rows, 0
    inputs: NDArray[np.int64] = np.tile(np.array(rules.prompt, np.int64), (rows, 1))
    chosen: list[NDArray[np.int64]] = []
    logprobs: list[NDArray[np.float32]] = []
    done = np.zeros(rows, np.bool_)
    while not done.all() and len(rules.prompt) + len(chosen) < rules.max_length:
        next_tokens, levels = decoder.step(inputs, np.full(rows, start, np.int64))
        chosen.append(next_tokens[:, -1])
        logprobs.append(levels[:, -1])
        done |= chosen[-1] == rules.end
        start += inputs.shape[1]
        inputs = next_tokens[:, -1:]
    tokens = np.stack(chosen, axis=1).tolist()
    return [
        _cut(row, levels, rules.end)
        for row, levels in zip(tokens, np.stack(logprobs, axis=1), strict=True)
    ]


def _cut(tokens: list[int], logprobs: NDArray[np.float32], end: int) -> Decoded:
    """End a row at its end token; the batch went on for the other rows."""
    count = tokens.index(end) + 1 if end in tokens else len(tokens)
    return Decoded(tokens=tuple(tokens[:count]), level_logprobs=logprobs[:count], passes=count)
