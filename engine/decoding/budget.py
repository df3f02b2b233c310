"""How much drafting may cost: bounds drafted decoding by greedy's cost, whatever the drafts.

Costs are in single steps of one row. A pass over N tokens, all rows counted, costs
1 + TOKEN_COST (N - 1). Greedy's cost for a batch is then known from the captions' lengths alone:
one pass a token of the longest caption, and TOKEN_COST for each further token. What drafting saves
is put by; refused drafts are paid from it. So over all batches of a captioner

    cost of all passes ≤ (1 + ALLOWANCE) × greedy's cost + one full draft of the largest batch.
"""

from __future__ import annotations

from typing import Final

TOKEN_COST: Final = 0.15
"""A further token in a pass, in single steps. Measured on CPUs: 0.15 for the default bundle, 0.04
to 0.07 for BLIP-base, whose single step is bound by reading the weights. The dearest counts."""

ALLOWANCE: Final = 0.05
"""Drafts that fail for good may cost this share of greedy's cost."""


def cost(tokens: int) -> float:
    """Cost of a pass over this many tokens, all rows counted."""
    return 1.0 + TOKEN_COST * (tokens - 1)


class Budget:
    """The account of one captioner, over all its batches."""

    def __init__(self) -> None:
        self._balance = 0.0
        self._loan = 0.0
        self._shortest = 0

    def begin(self, rows: int, length: int) -> None:
        """Start a batch: one full draft of `length` tokens a row is lent, once.

        What earlier batches saved counts no more than that, so that a captioner that stops
        following its drafts is found out soon.
        """
        self._shortest = 0
        loan = TOKEN_COST * rows * length
        fresh = max(loan - self._loan, 0.0)
        self._loan += fresh
        self._balance = min(self._balance + fresh, self._loan)

    def width(self, rows: int) -> int:
        """Most tokens a row that a pass may run beyond the prompt's; 1 is a single step."""
        return 1 + int(self._balance / (TOKEN_COST * rows))

    def settle(self, rows: int, width: int, taken: int, shortest: int) -> None:
        """Book a pass.

        Args:
            rows: rows that it ran.
            width: tokens a row that it ran, beyond the prompt's.
            taken: tokens that the captions grew by, in all.
            shortest: length of the shortest caption under way; of the longest, when all are done.
        """
        steps = shortest - self._shortest
        self._shortest = shortest
        earned = (1.0 - TOKEN_COST) * steps + TOKEN_COST * taken
        self._balance += (1.0 + ALLOWANCE) * earned - cost(rows * width)
