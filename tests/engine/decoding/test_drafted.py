"""Drafted decoding equals greedy, token for token, whatever the model and the drafts."""

import hashlib
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.decoding.caption import Rules
from engine.decoding.greedy import greedy
from engine.decoding.verify import accepted_length, drafted

VOCABULARY = 8
RULES = Rules(prompt=(1,), end=2, levels=(3, 4, 5, 6, 7), max_length=14)


class HashModel:
    """Next token = hash of row and prefix: a model nobody can guess, with a real cache."""

    def __init__(self, rows: int, seed: int, guesses: NDArray[np.int64] | None = None) -> None:
        self.rows, self.seed, self.guesses = rows, seed, guesses
        self.names = list(range(rows))
        self.cache = [[0] * RULES.max_length for _ in range(rows)]
        self.passes = 0

    def step(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        self.passes += 1
        following = np.zeros(tokens.shape, np.int64)
        for row, (line, first) in enumerate(zip(tokens, start, strict=True)):
            name = self.names[row]
            assert first + len(line) <= RULES.max_length
            for t, token in enumerate(line):
                self.cache[row][first + t] = int(token)
                prefix = self.cache[row][: first + t + 1]
                digest = hashlib.sha256(f"{self.seed}{name}{prefix}".encode()).digest()
                following[row, t] = digest[0] % VOCABULARY
        logprobs = np.stack([np.sin(following + k) for k in range(5)], axis=-1)
        return following, logprobs.astype(np.float32)

    def move(self, source: int, target: int) -> None:
        self.names[target] = self.names[source]
        self.cache[target] = self.cache[source].copy()

    def release(self) -> None:
        pass


class ScriptedDrafter:
    """Drafts what it was told, right or wrong."""

    def __init__(self, drafts: list[list[int]]) -> None:
        self.drafts = drafts
        self.calls = 0

    def draft(self, accepted: Sequence[int], guesses: Sequence[int]) -> Sequence[int]:
        self.calls += 1
        return self.drafts[self.calls % len(self.drafts)] if self.drafts else []


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(0, 10_000),
    st.lists(st.lists(st.integers(0, VOCABULARY - 1), max_size=16), max_size=4),
)
def test_drafted_equals_greedy(rows: int, seed: int, drafts: list[list[int]]) -> None:
    expected = greedy(HashModel(rows, seed), RULES)
    got = drafted(HashModel(rows, seed), ScriptedDrafter(drafts), RULES)
    for want, have in zip(expected, got, strict=True):
        assert have.tokens == want.tokens
        np.testing.assert_array_equal(have.level_logprobs, want.level_logprobs)
        assert have.passes <= want.passes


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


def test_accepted_length_is_the_common_prefix() -> None:
    assert accepted_length([1, 2, 3], [1, 2, 4, 5]) == 2
    assert accepted_length([], [1]) == 0
    assert accepted_length([1, 2], [1, 2, 3]) == 2
