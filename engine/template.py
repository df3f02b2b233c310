"""The caption template: scores -> rich text, and text -> levels, without loss.

A caption is one clause per attribute, each carrying a level word and the words that go with it:

    Noise level is fair: mottle is visible in soft tissue. Sharpness is good: edges are …

The wording of a clause follows from its level alone: rich for the reader, predictable for the
drafting decoder. The token of its level word is the clause's *slot*. `CT_IQA` is the project's own
template; a bundle may bring another one, with other wording and another order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .errors import TemplateError

LEVELS: Final = ("bad", "poor", "fair", "good", "excellent")
"""Level words, index = rounded score 0…4 (the Likert scale of LDCTIQAC 2023)."""

ATTRIBUTES: Final = ("noise", "sharpness", "artifacts", "low_contrast", "overall")
"""Attributes in the order in which `CT_IQA` names them; `overall` sums up the others."""

MAX_SCORE: Final = float(len(LEVELS) - 1)

SUBJECTS: Final[Mapping[str, str]] = {
    "noise": "Noise level",
    "sharpness": "Sharpness",
    "artifacts": "Freedom from artifacts",
    "low_contrast": "Low-contrast detectability",
    "overall": "Overall image quality",
}

_WORDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "noise": (
        "soft tissue is lost in heavy mottle",
        "coarse mottle hides fine detail",
        "mottle is visible in soft tissue",
        "mottle is slight",
        "tissue looks smooth and even",
    ),
    "sharpness": (
        "edges are smeared beyond use",
        "edges are clearly blurred",
        "edges are somewhat soft",
        "edges are well defined",
        "edges and fine structures are crisp",
    ),
    "artifacts": (
        "streaks or bands cover the anatomy",
        "streaks or bands disturb the reading",
        "streaks or bands are noticeable",
        "only faint streaks are present",
        "no streaks or bands are seen",
    ),
    "low_contrast": (
        "subtle lesions cannot be seen",
        "subtle lesions are likely missed",
        "subtle lesions are hard to see",
        "most subtle lesions are visible",
        "subtle lesions stand out",
    ),
    "overall": (
        "the slice is not interpretable",
        "interpretation is unreliable",
        "interpretation is limited",
        "the slice is suitable for diagnosis",
        "the anatomy is fully evident",
    ),
}

_LEVEL_WORD: Final = re.compile(rf"\b(?:{'|'.join(LEVELS)})\b")


@dataclass(frozen=True, slots=True)
class Template:
    """What captions look like.

    Attributes:
        clauses: attribute -> its sentence at every level, bad … excellent, in the order in which
            captions name the attributes. A sentence holds its own level word once, and no other.
    """

    clauses: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Check the clauses.

        Raises:
            TemplateError: an attribute or level is missing or unknown, or a sentence does not hold
                just its level word.
        """
        if self.clauses.keys() != set(ATTRIBUTES):
            raise TemplateError(
                f"a template has clauses for exactly {', '.join(ATTRIBUTES)}; "
                f"this one for {', '.join(self.clauses) or 'none'}"
            )
        for attribute, sentences in self.clauses.items():
            if len(sentences) != len(LEVELS):
                raise TemplateError(
                    f"{attribute} has {len(sentences)} sentences; one is needed for each of "
                    f"{', '.join(LEVELS)}"
                )
            for level, sentence in zip(LEVELS, sentences, strict=True):
                if _LEVEL_WORD.findall(sentence) != [level]:
                    raise TemplateError(
                        f"the sentence {sentence!r} of {attribute} must hold the word {level!r} "
                        "once, and no other level word"
                    )

    @property
    def attributes(self) -> tuple[str, ...]:
        """In the order of their slots."""
        return tuple(self.clauses)

    def clause(self, attribute: str, level: int) -> str:
        """The sentence for one attribute at one level.

        Raises:
            TemplateError: the attribute or the level does not exist.
        """
        if attribute not in self.clauses or not 0 <= level < len(LEVELS):
            raise TemplateError(
                f"no clause for attribute {attribute!r} at level {level!r}; "
                f"attributes: {', '.join(ATTRIBUTES)}; levels: 0…{len(LEVELS) - 1}"
            )
        return self.clauses[attribute][level]

    def caption(self, levels: Mapping[str, int]) -> str:
        """The caption that carries a level for every attribute.

        Raises:
            TemplateError: an attribute is missing, or a level does not exist.
        """
        missing = [attribute for attribute in self.clauses if attribute not in levels]
        if missing:
            raise TemplateError(f"no level given for {', '.join(missing)}")
        return " ".join(self.clause(attribute, levels[attribute]) for attribute in self.clauses)

    def parse(self, text: str) -> dict[str, int]:
        """The levels a caption carries: the exact inverse of `caption`.

        Raises:
            TemplateError: the text is not a caption of this template.
        """
        words = [LEVELS.index(word) for word in _LEVEL_WORD.findall(text)]
        levels = dict(zip(self.clauses, words, strict=False))
        if len(words) != len(self.clauses) or self.caption(levels) != text:
            raise TemplateError("the caption's wording does not follow the template")
        return levels

    def follows(self, text: str) -> bool:
        """Whether `parse` can read the text."""
        try:
            self.parse(text)
        except TemplateError:
            return False
        return True


CT_IQA: Final = Template(
    {
        attribute: tuple(
            f"{SUBJECTS[attribute]} is {level}: {wording}."
            for level, wording in zip(LEVELS, _WORDINGS[attribute], strict=True)
        )
        for attribute in ATTRIBUTES
    }
)

clause = CT_IQA.clause
caption = CT_IQA.caption
parse = CT_IQA.parse
follows_template = CT_IQA.follows


def level_of(score: float) -> int:
    """Level index 0…4 of a continuous score: rounded half up, clipped to the scale."""
    return int(min(max(score, 0.0), MAX_SCORE) + 0.5)
