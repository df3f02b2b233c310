"""Prompts: versioned text files beside this module; a changed text is a new version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

SLICE: Final = "slice.v1"
SERIES: Final = "series.v1"
CHAT: Final = "chat.v1"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's version, such as "slice.v1", its text, and the SHA-256 of the text."""

    version: str
    text: str
    digest: str


@cache
def load(version: str) -> Prompt:
    """The prompt of that version."""
    text = files(__package__).joinpath(f"{version}.txt").read_text("utf-8")
    return Prompt(version, text, hashlib.sha256(text.encode()).hexdigest())
