"""The benchmark's end of a worker process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from engine.errors import IqaError

from .protocol import Setup

_ROOT = Path(__file__).parents[2]


class PeerError(IqaError):
    """A contestant could not be loaded or run; the message is its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One batch: captions as token ids, and seconds.

    `encode` is the picture's share of `total`; `peak_rss_mb` is the process's, so far; `passes` is
    decoder runs a caption, where the contestant counts them.
    """

    tokens: list[list[int]]
    encode: float
    total: float
    peak_rss_mb: float
    passes: float | None = None

    @property
    def decode(self) -> float:
        """All but encoding."""
        return self.total - self.encode


class Worker:
    """A contestant in its own process; loaded when the constructor returns."""

    def __init__(self, kind: str, setup: Setup, *, python: Path, log: Path) -> None:
        """Start and load.

        Args:
            kind: module:class.
            setup: what it loads.
            python: interpreter of its environment.
            log: file that takes its stderr.

        Raises:
            PeerError: it did not load.
        """
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [python, "-m", "benchmarks.peers.worker", kind],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": str(_ROOT), "HF_HUB_OFFLINE": "1"},
            )
        try:
            loaded = self._ask(setup.to_json())
        except PeerError:
            self.close()
            raise
        self.versions: dict[str, str] = loaded["versions"]
        self.load_seconds: float = loaded["load_seconds"]

    def run(self, rows: Sequence[int]) -> Answer:
        """Caption the slices of these numbers as one batch.

        Raises:
            PeerError: it failed; the process may be gone.
        """
        return Answer(**self._ask(json.dumps(list(rows))))

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, line: str) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("both are pipes")
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        answer = json.loads(reply or '{"error": "the process ended without an answer"}')
        if "error" in answer:
            raise PeerError(f"{answer['error']} (its output is in {self._log})")
        return answer
