"""The caption template: scores -> rich text, and text -> levels, without loss.

A caption is one clause per attribute, each carrying a level word and the words that go with it:

    Noise level is fair: mottle is visible in soft tissue. Sharpness is good: edges are …

The level word stands right after "<subject> is", so that the position of its token (the *slot*)
is known to whoever drafts or scores a caption. The wording of a clause follows from its level
alone: rich for the reader, predictable for the drafting decoder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from .errors import TemplateError

LEVELS: Final = ("bad", "poor", "fair", "good", "excellent")
"""Level words, index = rounded score 0…4 (the Likert scale of LDCTIQAC 2023)."""

ATTRIBUTES: Final = ("noise", "sharpness", "artifacts", "low_contrast", "overall")
"""Attributes in the order in which a caption names them; `overall` sums up the others."""

MAX_SCORE: Final = float(len(LEVELS) - 1)

SUBJECTS: Final[Mapping[str, str]] = {
    "noise": "Noise level",
    "sharpness": "Sharpness",
    "artifacts": "Freedom from artifacts",
    "low_contrast": "Low-contrast detectability",
    "overall": "Overall image quality",
}

_CLAUSES: Final[Mapping[str, tuple[str, ...]]] = {
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

_SLOT: Final = re.compile(
    "|".join(
        rf"{re.escape(subject)} is (?P<{attribute}>{'|'.join(LEVELS)})\b"
        for attribute, subject in SUBJECTS.items()
    )
)


def level_of(score: float) -> int:
    """Level index 0…4 of a continuous score: rounded half up, clipped to the scale."""
    return int(min(max(score, 0.0), MAX_SCORE) + 0.5)


def clause(attribute: str, level: int) -> str:
    """The sentence for one attribute at one level.

    Raises:
        TemplateError: the attribute or the level does not exist.
    """
    if attribute not in SUBJECTS or not 0 <= level < len(LEVELS):
        raise TemplateError(
            f"no clause for attribute {attribute!r} at level {level!r}; "
            f"attributes: {', '.join(ATTRIBUTES)}; levels: 0…{len(LEVELS) - 1}"
        )
    return f"{SUBJECTS[attribute]} is {LEVELS[level]}: {_CLAUSES[attribute][level]}."


def caption(levels: Mapping[str, int]) -> str:
    """The caption that carries a level for every attribute.

    Raises:
        TemplateError: an attribute is missing, or a level does not exist.
    """
    missing = [attribute for attribute in ATTRIBUTES if attribute not in levels]
    if missing:
        raise TemplateError(f"no level given for {', '.join(missing)}")
    return " ".join(clause(attribute, levels[attribute]) for attribute in ATTRIBUTES)


def follows_template(text: str) -> bool:
    """Whether `parse` can read the text."""
    try:
        parse(text)
    except TemplateError:
        return False
    return True


def parse(text: str) -> dict[str, int]:
    """The levels a caption carries: the exact inverse of `caption`.

    Raises:
        TemplateError: an attribute is missing or named twice, or a clause contradicts its level.
    """
    levels: dict[str, int] = {}
    for match in _SLOT.finditer(text):
        attribute = str(match.lastgroup)
        if attribute in levels:
            raise TemplateError(f"the caption names {attribute} twice")
        levels[attribute] = LEVELS.index(match[attribute])
    if caption(levels) != text:
        raise TemplateError("the caption's wording does not follow the template")
    return levels
