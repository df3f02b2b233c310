"""Drafted decoding: check a whole draft in one pass, keep what the model would have said itself.

The result equals `greedy` token for token, for any model and any draft: only the model's own
arg-max after an accepted prefix is ever kept. Rows of a batch advance on their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Decoder
from ..template import ATTRIBUTES, LEVELS
from .caption import Decoded, Rules
from .draft import Drafter

_FIRST_GUESSES: Final = (LEVELS.index("good"),) * len(ATTRIBUTES)
_MAX_FAILURES: Final = 2


def accepted_length(draft: Sequence[int], choices: Sequence[int]) -> int:
    """How many drafted tokens, from the first on, equal the model's own choices."""
    for position, (drafted, chosen) in enumerate(zip(draft, choices, strict=False)):
        if drafted != chosen:
            return position
    return min(len(draft), len(choices))


class _Row:
    """One caption under way: `pending` are known tokens that the cache does not hold yet."""

    def __init__(self, rules: Rules, guesses: Sequence[int]) -> None:
        self.rules = rules
        self.pending = list(rules.prompt)
        self.start = 0
        self.tokens: list[int] = []
        self.logprobs: list[NDArray[np.float32]] = []
        self.guesses = list(guesses)
        self.failures = 0
        self.passes = 0
        self.proposal: list[int] = []

    @property
    def done(self) -> bool:
        """The caption has its end, or no room for another token."""
        length = len(self.rules.prompt) + len(self.tokens)
        return self.rules.end in self.tokens[-1:] or length >= self.rules.max_length

    def propose(self, drafter: Drafter) -> list[int]:
        """The tokens this row would like to run: what is pending, then the draft."""
        drafting = self.failures < _MAX_FAILURES
        self.proposal = list(drafter.draft(self.tokens, self.guesses)) if drafting else []
        return self.pending + self.proposal

    def take(self, choices: NDArray[np.int64], logprobs: NDArray[np.float32]) -> None:
        """Learn from one pass over `pending` and as much of the proposal as fitted in."""
        first = len(self.pending) - 1
        chosen: list[int] = choices[first:].tolist()
        draft = self.proposal[: len(chosen) - 1]
        count = accepted_length(draft, chosen)
        self.failures = self.failures + 1 if draft and not count else 0
        self._learn(draft, logprobs[first:])
        room = self.rules.max_length - len(self.rules.prompt) - len(self.tokens)
        fresh = chosen[: min(count + 1, room)]
        if self.rules.end in fresh:
            fresh = fresh[: fresh.index(self.rules.end) + 1]
        self.tokens += fresh
        self.logprobs += list(logprobs[first : first + len(fresh)])
        self.start += first + len(fresh)
        self.pending = fresh[-1:]
        self.passes += 1

    def _learn(self, draft: Sequence[int], logprobs: NDArray[np.float32]) -> None:
        """Guess each drafted slot as the model sees it, though its left context may be wrong."""
        slot = sum(token in self.rules.levels for token in self.tokens)
        for token, levels in zip(draft, logprobs, strict=False):
            if token in self.rules.levels and slot < len(self.guesses):
                self.guesses[slot] = int(levels.argmax())
                slot += 1

    def result(self) -> Decoded:
        """The finished caption."""
        return Decoded(
            tokens=tuple(self.tokens), level_logprobs=np.stack(self.logprobs), passes=self.passes
        )


def drafted(decoder: Decoder, drafter: Drafter, rules: Rules) -> list[Decoded]:
    """Caption every row of an encoded batch; the same tokens as `greedy`, in fewer passes.

    A row whose drafts were refused at their first token twice running goes on in single steps.

    Raises:
        BackendError: a decoder run failed.
    """
    given = decoder.guesses
    guesses = [_FIRST_GUESSES] * decoder.rows if given is None else given.tolist()
    rows = [_Row(rules, guesses[index]) for index in range(decoder.rows)]
    while active := [index for index, row in enumerate(rows) if not row.done]:
        wanted = {index: rows[index].propose(drafter) for index in active}
        room = rules.max_length - max(rows[index].start for index in active)
        width = min(max(map(len, wanted.values())), room)
        # Short rows run padding and finished ones run nothing else: nobody looks at its result,
        # and the cache behind a row's start is never seen.
        tokens = np.full((len(rows), width), rules.end, np.int64)
        start = np.zeros(len(rows), np.int64)
        for index, proposal in wanted.items():
            fitting = proposal[:width]
            tokens[index, : len(fitting)] = fitting
            start[index] = rows[index].start
        choices, logprobs = decoder.step(tokens, start)
        for index, proposal in wanted.items():
            count = min(len(proposal), width)
            rows[index].take(choices[index, :count], logprobs[index, :count])
    return [row.result() for row in rows]
