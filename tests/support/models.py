"""A scripted model over a real cache: every row's greedy caption is known beforehand."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from engine.decoding.caption import Rules

VOCABULARY = 8
RULES = Rules(prompt=(1,), end=2, levels=(3, 4, 5, 6, 7), max_length=14)


class HashModel:
    """Next token = hash of row and prefix: a model nobody can guess.

    It counts what it runs: `passes`, and `work`, the tokens of each pass over all its rows.
    """

    def __init__(
        self,
        rows: int,
        seed: int,
        guesses: NDArray[np.int64] | None = None,
        rules: Rules = RULES,
    ) -> None:
        self.rows, self.seed, self.guesses, self.rules = rows, seed, guesses, rules
        self.names = list(range(rows))
        self.cache = [[0] * rules.max_length for _ in range(rows)]
        self.work: list[int] = []
        self.seen: list[list[int]] = []

    @property
    def passes(self) -> int:
        """Decoder runs."""
        return len(self.work)

    def step(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        self.work.append(tokens.size)
        self.seen.append(self.names[: len(tokens)])
        following = np.zeros(tokens.shape, np.int64)
        for row, (line, first) in enumerate(zip(tokens, start, strict=True)):
            assert first + len(line) <= self.rules.max_length
            for t, token in enumerate(line):
                self.cache[row][first + t] = int(token)
                following[row, t] = self.after(self.names[row], self.cache[row][: first + t + 1])
        logprobs = np.stack([np.sin(following + k) for k in range(5)], axis=-1)
        return following, logprobs.astype(np.float32)

    def after(self, name: int, prefix: list[int]) -> int:
        """The row's next token."""
        digest = hashlib.sha256(f"{self.seed}{name}{prefix}".encode()).digest()
        return digest[0] % VOCABULARY

    def move(self, source: int, target: int) -> None:
        self.names[target] = self.names[source]
        self.cache[target] = self.cache[source].copy()

    def release(self) -> None:
        pass


class ScriptedModel(HashModel):
    """Says a script per row, whatever was drafted; off the script it says chance."""

    def __init__(self, scripts: list[list[int]], rules: Rules = RULES) -> None:
        super().__init__(len(scripts), 0, rules=rules)
        self.scripts = scripts

    def after(self, name: int, prefix: list[int]) -> int:
        said, script = prefix[len(self.rules.prompt) :], self.scripts[name]
        if said == script[: len(said)] and len(said) < len(script):
            return script[len(said)]
        return super().after(name, prefix)
