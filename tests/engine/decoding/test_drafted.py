"""Drafted decoding equals greedy, token for token, whatever the model and the drafts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decoding.budget import ALLOWANCE, TOKEN_COST, Budget, cost
from engine.decoding.caption import Decoded, Rules
from engine.decoding.draft import Drafter, TemplateDrafter
from engine.decoding.greedy import greedy
from engine.decoding.verify import accepted_length, drafted
from engine.template import ATTRIBUTES, LEVELS, caption
from tests.support.models import RULES, VOCABULARY, HashModel, ScriptedModel


class ScriptedDrafter:
    """Drafts what it was told, right or wrong."""

    def __init__(self, drafts: list[list[int]]) -> None:
        self.drafts = drafts
        self.calls = 0

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:
        self.calls += 1
        return self.drafts[self.calls % len(self.drafts)] if self.drafts else []


class Adversary:
    """Knows every caption to come, and spoils it in one way."""

    def __init__(self, captions: list[tuple[int, ...]], how: str) -> None:
        self.captions, self.how = captions, how

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:
        known = next(c for c in self.captions if c[: len(accepted)] == tuple(accepted))
        rest = list(known[len(accepted) :])
        if self.how == "always wrong":
            return [(token + 1) % VOCABULARY for token in rest]
        if self.how == "wrong at the last token":
            return [*rest[:-1], (rest[-1] + 1) % VOCABULARY]
        if self.how == "wrong second token":
            return [rest[0], *((token + 1) % VOCABULARY for token in rest[1:])]
        if self.how == "too long":
            return [*rest, *[5] * 40]
        if self.how == "end early":
            return [*rest[: len(rest) // 2], RULES.end, *rest[len(rest) // 2 :]]
        if self.how == "ids outside":
            return [*rest[:2], -7, 2**40, *rest[2:]]
        return rest[:1]  # too short


HOW = [
    *("always wrong", "wrong at the last token", "wrong second token", "too long", "too short"),
    *("end early", "ids outside"),
]


def check_equal(expected: list[Decoded], got: list[Decoded]) -> None:
    for want, have in zip(expected, got, strict=True):
        assert have.tokens == want.tokens
        np.testing.assert_array_equal(have.level_logprobs, want.level_logprobs)
        assert have.passes + have.accepted == len(have.tokens) + finished_by_draft(have)
        assert have.passes <= want.passes


def finished_by_draft(row: Decoded) -> int:
    """1 where the last token of all was drafted: the pass's own next token was not needed."""
    return row.passes + row.accepted - len(row.tokens) if row.accepted else 0


def greedy_cost(rows: list[Decoded]) -> float:
    """In single steps, where rows leave when they are done."""
    lengths = [len(row.tokens) for row in rows]
    return (1 - TOKEN_COST) * max(lengths) + TOKEN_COST * sum(lengths)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(0, 10_000),
    st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=16), max_size=4),
)
def test_drafted_equals_greedy(rows: int, seed: int, drafts: list[list[int]]) -> None:
    expected = greedy(HashModel(rows, seed), RULES)
    check_equal(expected, drafted(HashModel(rows, seed), ScriptedDrafter(drafts), RULES))


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10_000), st.sampled_from(HOW))
def test_adversarial_drafts_change_nothing(rows: int, seed: int, how: str) -> None:
    expected = greedy(HashModel(rows, seed), RULES)
    adversary = Adversary([row.tokens for row in expected], how)
    check_equal(expected, drafted(HashModel(rows, seed), adversary, RULES))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 10_000)), min_size=1, max_size=12),
    st.sampled_from(HOW),
)
def test_refused_drafts_cost_five_per_cent_and_one_draft(
    batches: list[tuple[int, int]], how: str
) -> None:
    budget, spent, allowed = Budget(), 0.0, 0.0
    for rows, seed in batches:
        expected = greedy(HashModel(rows, seed), RULES)
        model = HashModel(rows, seed)
        drafted(model, Adversary([row.tokens for row in expected], how), RULES, budget)
        spent += sum(map(cost, model.work))
        allowed += (1 + ALLOWANCE) * greedy_cost(expected)
    largest = max(rows for rows, _ in batches)
    assert spent <= allowed + TOKEN_COST * largest * RULES.max_length + 1e-6


def test_a_drafter_that_is_always_wrong_is_given_up() -> None:
    budget, extra = Budget(), []
    for seed in range(60):
        expected = greedy(HashModel(1, seed), RULES)
        model = HashModel(1, seed)
        drafted(model, Adversary([row.tokens for row in expected], "always wrong"), RULES, budget)
        extra.append(sum(map(cost, model.work)) - greedy_cost(expected))
    late = extra[20:]
    steps = sum(greedy_cost(greedy(HashModel(1, seed), RULES)) for seed in range(20, 60))
    assert sum(late) <= ALLOWANCE * steps + 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_finished_rows_are_not_run_again(rows: int, seed: int) -> None:
    expected = greedy(HashModel(rows, seed), RULES)
    model = HashModel(rows, seed)
    drafted(model, ScriptedDrafter([]), RULES)
    for name, row in enumerate(expected):
        assert sum(name in seen for seen in model.seen) == len(row.tokens)
    assert sum(model.work) == sum(len(row.tokens) for row in expected)


class GuessDrafter:
    """Drafts the guesses themselves, as tokens."""

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:
        return guesses[len(accepted) :]


def test_the_first_draft_uses_what_the_encoder_guessed() -> None:
    (want,) = greedy(HashModel(1, 5), RULES)
    (have,) = drafted(HashModel(1, 5, np.array([want.tokens])), GuessDrafter(), RULES)
    assert have.tokens == want.tokens
    assert have.passes == 1


def test_a_perfect_draft_takes_one_pass() -> None:
    (want,) = greedy(HashModel(1, 5), RULES)
    (have,) = drafted(HashModel(1, 5), ScriptedDrafter([list(want.tokens)]), RULES)
    assert have.tokens == want.tokens
    assert have.passes == 1
    assert have.accepted == len(want.tokens)


def test_accepted_length_is_the_common_prefix() -> None:
    assert accepted_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert accepted_length([], [1]) == 0
    assert accepted_length([1, 2], [1, 2, 3]) == 2


WORDS = ("<unk>", "<s>", "</s>", *LEVELS)
LONG = Rules(prompt=(1,), end=2, levels=(3, 4, 5, 6, 7), max_length=120)


def encode(text: str) -> list[int]:
    """Level words have ids of their own; other words share what is left."""
    words = text.replace(":", " :").replace(".", " .").split()
    return [WORDS.index(w) if w in WORDS else 8 + sum(map(ord, w)) % 200 for w in words]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(0, 4), min_size=len(ATTRIBUTES), max_size=len(ATTRIBUTES)),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 90),
)
def test_captions_of_the_template_take_few_passes(levels: list[list[int]], cut: int) -> None:
    """Also captions that leave the template somewhere (`cut` tokens of it, then chance)."""
    scripts = []
    for row in levels:
        script = [*encode(caption(dict(zip(ATTRIBUTES, row, strict=True)))), LONG.end]
        scripts.append(script if cut > 60 else [*script[:-1][:cut], LONG.end])
    drafter: Drafter = TemplateDrafter(encode, LONG)
    expected = greedy(ScriptedModel(scripts, LONG), LONG)
    assert [list(row.tokens) for row in expected] == scripts
    got = drafted(ScriptedModel(scripts, LONG), drafter, LONG)
    check_equal(expected, got)
    if cut > 60:
        assert max(row.passes for row in got) <= 2 * len(ATTRIBUTES)


@pytest.mark.parametrize("rows", [1, 3])
def test_free_text_costs_no_more_than_five_per_cent(rows: int) -> None:
    """A captioner that knows no template: the first caption's draft is the only one lent."""
    budget, spent, plain = Budget(), 0.0, 0.0
    for seed in range(12):
        model = HashModel(rows, seed, rules=LONG)
        drafter = TemplateDrafter(encode, LONG)
        got = drafted(model, drafter, LONG, budget)
        check_equal(greedy(HashModel(rows, seed, rules=LONG), LONG), got)
        spent += sum(map(cost, model.work))
        plain += greedy_cost(got)
    assert spent <= (1 + ALLOWANCE) * plain + TOKEN_COST * rows * LONG.max_length + 1e-6
