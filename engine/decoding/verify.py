"""Drafted decoding: check a whole draft in one pass, keep what the model would have said itself.

The result equals `greedy` token for token, for any model and any draft: only the model's own
arg-max after an accepted prefix is ever kept. Rows of a batch advance on their own, and leave it
when they are done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ..backends.base import Decoder
from ..template import ATTRIBUTES, LEVELS
from .budget import Budget
from .caption import Decoded, Rules
from .draft import Drafter

_FIRST_GUESSES: Final = (LEVELS.index("good"),) * len(ATTRIBUTES)


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
        self.passes = 0
        self.accepted = 0
        self.proposal: list[int] = []

    @property
    def done(self) -> bool:
        """The caption has its end, or no room for another token."""
        length = len(self.rules.prompt) + len(self.tokens)
        return self.rules.end in self.tokens[-1:] or length >= self.rules.max_length

    def propose(self, drafter: Drafter) -> list[int]:
        """The tokens this row would like to run: what is pending, then the draft."""
        self.proposal = list(drafter.draft(self.tokens, self.guesses))
        return self.pending + self.proposal

    def take(self, choices: NDArray[np.int64], logprobs: NDArray[np.float32]) -> int:
        """Learn from one pass over `pending` and as much of the proposal as fitted in.

        Returns:
            How many tokens the caption grew by.
        """
        first = len(self.pending) - 1
        chosen: list[int] = choices[first:].tolist()
        draft = self.proposal[: len(chosen) - 1]
        count = accepted_length(draft, chosen)
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
        self.accepted += min(count, len(fresh))
        return len(fresh)

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
            tokens=tuple(self.tokens),
            level_logprobs=np.stack(self.logprobs),
            passes=self.passes,
            accepted=self.accepted,
        )


class Drafting:
    """The captions of one encoded batch, a decoder pass at a time."""

    def __init__(self, decoder: Decoder, drafter: Drafter, rules: Rules, budget: Budget) -> None:
        """`budget` is the captioner's: it outlives the batch."""
        self._decoder, self._drafter, self._rules = decoder, drafter, rules
        self._budget = budget
        given = decoder.guesses
        guesses = [_FIRST_GUESSES] * decoder.rows if given is None else given.tolist()
        self._rows = [_Row(rules, guesses[index]) for index in range(decoder.rows)]
        self._places = list(self._rows)
        """The rows under way, by their place in the decoder."""
        budget.begin(decoder.rows, rules.max_length)

    @property
    def done(self) -> bool:
        """Every caption has its end."""
        return not self._places

    def advance(self) -> None:
        """Run one pass over the rows under way; those that are done leave.

        Raises:
            BackendError: the decoder run failed.
        """
        rows = list(self._places)
        wanted = [row.propose(self._drafter) for row in rows]
        known = max(len(row.pending) for row in rows)
        width = min(
            max(map(len, wanted)),
            self._rules.max_length - max(row.start for row in rows),
            known - 1 + self._budget.width(len(rows)),
        )
        # Short rows run padding: nobody looks at its result, and the cache behind a row's start
        # is never seen.
        tokens = np.full((len(rows), width), self._rules.end, np.int64)
        for line, proposal in zip(tokens, wanted, strict=True):
            fitting = proposal[:width]
            line[: len(fitting)] = fitting
        start = np.array([row.start for row in rows], np.int64)
        choices, logprobs = self._decoder.step(tokens, start)
        taken = 0
        for row, proposal, chosen, levels in zip(rows, wanted, choices, logprobs, strict=True):
            taken += row.take(chosen[: len(proposal)], levels[: len(proposal)])
        self._leave()
        lengths = [len(row.tokens) for row in self._places] or [
            max(len(row.tokens) for row in self._rows)
        ]
        self._budget.settle(len(rows), width - known + 1, taken, min(lengths))

    def results(self) -> list[Decoded]:
        """The captions in the batch's order, once all are done."""
        return [row.result() for row in self._rows]

    def _leave(self) -> None:
        """Close the gaps that finished rows leave, so that a pass runs leading rows only."""
        for place in reversed(range(len(self._places))):
            if self._places[place].done:
                last = self._places.pop()
                if place < len(self._places):
                    self._decoder.move(len(self._places), place)
                    self._places[place] = last


def drafted(
    decoder: Decoder, drafter: Drafter, rules: Rules, budget: Budget | None = None
) -> list[Decoded]:
    """Caption every row of an encoded batch; the same tokens as `greedy`, in fewer passes.

    Args:
        decoder: over an encoded batch, its cache empty.
        drafter: proposes; a wrong draft costs time, never correctness.
        rules: token ids and limits.
        budget: what refused drafts may cost; None: this batch's own.

    Raises:
        BackendError: a decoder run failed.
    """
    drafting = Drafting(decoder, drafter, rules, Budget() if budget is None else budget)
    while not drafting.done:
        drafting.advance()
    return drafting.results()
