"""Guess the rest of a caption: the template, filled with the best guess of every level."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ..template import CT_IQA, Template
from .caption import Rules


class Drafter(Protocol):
    """Whoever proposes tokens; a wrong draft costs time, never correctness."""

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:
        """Tokens that may follow.

        Args:
            accepted: the tokens generated so far, without the prompt.
            guesses: best guess of the level at each of the caption's slots.

        Returns:
            Any number of tokens; none means one plain step.
        """
        ...


class NoDrafts:
    """For a captioner without a template: every pass is a plain step."""

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:  # noqa: ARG002
        """See `Drafter.draft`."""
        return ()


class TemplateDrafter:
    """Drafts the whole caption; silent where the accepted tokens left the template."""

    def __init__(
        self,
        encode: Callable[[str], Sequence[int]],
        rules: Rules,
        template: Template = CT_IQA,
    ) -> None:
        """`encode` turns a caption into token ids, without prompt and end."""
        self._encode = encode
        self._rules = rules
        self._template = template
        self._captions: dict[tuple[int, ...], tuple[int, ...]] = {}

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:
        """See `Drafter.draft`: accepted levels are kept, the others guessed."""
        known = [self._rules.levels.index(t) for t in accepted if t in self._rules.levels]
        whole = self._tokens((*known, *guesses[len(known) :])[: len(guesses)])
        count = len(accepted)
        return whole[count:] if whole[:count] == tuple(accepted) else ()

    def _tokens(self, levels: tuple[int, ...]) -> tuple[int, ...]:
        """The caption's tokens, encoded once for each combination of levels."""
        if levels not in self._captions:
            text = self._template.caption(dict(zip(self._template.attributes, levels, strict=True)))
            self._captions[levels] = (*self._encode(text), self._rules.end)
        return self._captions[levels]
