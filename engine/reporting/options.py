"""What a language-model reporter needs to know: plain values, checked where they are used."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

DEFAULT_MODEL: Final = "gpt-5.4-mini-2026-03-17"
"""A dated snapshot, so that the model behind the name stays the same."""

TOGETHER: Final = 64
"""Slices worth handing over at once: equal captions share a request."""


def default_cache() -> Path:
    """The user's own cache file, shared by all processes."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "iqagpt" / "replies.sqlite3"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterOptions:
    """Which model writes ratings and reports, and how long it may take.

    Attributes:
        model: model id at the server; unused with `gguf`.
        base_url: any OpenAI-compatible server, up to and including "/v1"; None: OPENAI_BASE_URL,
            else OpenAI itself.
        api_key: None: OPENAI_API_KEY. Never printed, logged or stored.
        proxy: URL of an HTTP proxy on the way there; the environment's proxies are not used.
        gguf: a model file to serve on this machine's loopback instead (extra `local`).
        threads: threads of that local model; None: half of the cores.
        required: raise `ReporterError` from `assess` instead of falling back on the template.
        timeout: seconds for one call.
        deadline: seconds for all calls and pauses of one batch together.
        attempts: most calls for one request.
        backoff: seconds of the first pause between them; doubles, up to 8 s, with jitter.
        concurrency: most calls at a time.
        breaker_failures: failures in a row after which the server is left alone.
        breaker_pause: seconds until one probe may ask it again.
        cache: file of the reply cache; None: no cache.
        cache_bytes: size above which the least recently used replies go.
        temperature: None leaves it to the server (a local model then gets 0).
        max_tokens: most tokens for one caption's reply.
        group: most captions in one request; a caption whose wording does not follow the template
            always goes alone, so that it cannot colour the others.
        tolerance: most steps of the 0…4 scale between a rating and the level that the caption
            states; a reply beyond it is refused, so no text in a caption can talk a score up.
            None switches the check off.
        prices: price of a million prompt tokens and of a million completion tokens.
    """

    model: str = DEFAULT_MODEL
    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    proxy: str | None = None
    gguf: Path | None = None
    threads: int | None = None
    required: bool = False
    timeout: float = 30.0
    deadline: float = 60.0
    attempts: int = 3
    backoff: float = 0.5
    concurrency: int = 8
    breaker_failures: int = 5
    breaker_pause: float = 30.0
    cache: Path | None = field(default_factory=default_cache)
    cache_bytes: int = 64 * 1024 * 1024
    temperature: float | None = None
    max_tokens: int = 1000
    group: int = 6
    tolerance: float | None = 1.0
    prices: tuple[float, float] | None = None
