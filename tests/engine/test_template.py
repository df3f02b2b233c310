"""Scores -> caption -> levels, without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import TemplateError
from engine.template import ATTRIBUTES, CT_IQA, LEVELS, Template, caption, level_of, parse

LEVEL_SETS = st.fixed_dictionaries({name: st.integers(0, 4) for name in ATTRIBUTES})


@given(LEVEL_SETS)
def test_parse_inverts_caption(levels: dict[str, int]) -> None:
    assert parse(caption(levels)) == levels


@given(LEVEL_SETS, st.integers(0, 400), st.characters())
def test_a_changed_letter_never_gives_wrong_levels(
    levels: dict[str, int], place: int, letter: str
) -> None:
    text = caption(levels)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(TemplateError):
            parse(changed)


@given(st.text())
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        parse(text)


@given(LEVEL_SETS, st.permutations(ATTRIBUTES))
def test_another_wording_in_another_order_is_read_as_well(
    levels: dict[str, int], order: list[str]
) -> None:
    other = Template({name: tuple(f"{name}: {level}!" for level in LEVELS) for name in order})
    assert other.parse(other.caption(levels)) == levels
    assert other.attributes == tuple(order)
    assert not CT_IQA.follows(other.caption(levels))


SENTENCES = dict.fromkeys(ATTRIBUTES, LEVELS)


@pytest.mark.parametrize(
    ("clauses", "message"),
    [
        ({}, "exactly noise, .*; this one for none"),
        ({**SENTENCES, "contrast": LEVELS}, "for exactly"),
        ({**SENTENCES, "noise": LEVELS[:4]}, "noise has 4 sentences"),
        ({**SENTENCES, "noise": ("bad", "poor", "fair", "good", "perfect")}, "'excellent' once"),
        ({**SENTENCES, "noise": ("bad, not good", *LEVELS[1:])}, "no other level word"),
        ({**SENTENCES, "overall": tuple(reversed(LEVELS))}, "of overall must hold"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused(
    clauses: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(TemplateError, match=message):
        Template(clauses)


@pytest.mark.parametrize(
    ("score", "level"), [(-1, 0), (0, 0), (0.49, 0), (0.5, 1), (3.5, 4), (4, 4), (9, 4)]
)
def test_level_of_rounds_half_up_and_clips(score: float, level: int) -> None:
    assert level_of(score) == level


def test_caption_needs_every_attribute_and_a_known_level() -> None:
    with pytest.raises(TemplateError, match="no level given for overall"):
        caption(dict.fromkeys(ATTRIBUTES[:-1], 2))
    with pytest.raises(TemplateError, match="level 7"):
        caption(dict.fromkeys(ATTRIBUTES, 7))
    assert len(LEVELS) == 5
