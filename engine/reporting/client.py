"""Asks an OpenAI-compatible server: time limits, retries, circuit breaker; the only `openai` user.

Retries are tenacity's and the SDK's own are off: the SDK knows neither our deadline (it would sleep
through it when Retry-After is long) nor the breaker, which must hear of every failed call. One loop
decides.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar

import httpx2
import openai
import tenacity
from pydantic import BaseModel, ValidationError

from ..errors import (
    CircuitOpenError,
    ReplyError,
    ReporterError,
    ReporterSetupError,
    ReporterStatusError,
    ReporterTimeoutError,
    ReporterUnreachableError,
)
from ..offline import check_url
from .gate import Gate
from .options import ReporterOptions
from .transport import Transport

OPENAI: Final = "https://api.openai.com/v1"
_MAX_PAUSE: Final = 8.0
_NO_KEY: Final = "no-key-needed"
Message = dict[str, str]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A reply's text, and what it took."""

    text: str
    model: str
    fingerprint: str | None
    prompt_tokens: int
    completion_tokens: int


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(BaseModel):
    """The part of a chat completion that is read; servers add what they like."""

    choices: list[_Choice]
    model: str = ""
    system_fingerprint: str | None = None
    usage: _Usage | None = None


class Client:
    """One server, one model. Lives on one event loop."""

    def __init__(
        self, options: ReporterOptions, *, base_url: str, api_key: str, model: str
    ) -> None:
        """Nothing is sent yet.

        Raises:
            OfflineError: the network is forbidden and the server is not on this machine.
            ReporterSetupError: an option is out of range.
        """
        check_url(base_url)
        if options.proxy is not None:
            check_url(options.proxy)
        _check(options)
        self._options, self._model, self._key = options, model, api_key
        self._gate = Gate(options.breaker_failures, options.breaker_pause)
        self._slots = asyncio.Semaphore(options.concurrency)
        self.calls = 0
        http = httpx2.AsyncClient(
            transport=Transport(proxy=options.proxy),
            timeout=httpx2.Timeout(options.timeout),
            follow_redirects=False,  # a redirect could lead captions elsewhere
        )
        self._openai = openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, max_retries=0, http_client=http
        )

    @property
    def breaker(self) -> str:
        """State of the circuit breaker."""
        return self._gate.state

    async def ask(
        self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int
    ) -> Answer:
        """One structured reply, within the deadline.

        Raises:
            ReporterError: there is none; the class and message say why.
        """
        format_: Any = {
            "type": "json_schema",
            "json_schema": {"name": "quality", "strict": True, "schema": schema},
        }
        request = self._request(messages, max_tokens) | {"response_format": format_}

        async def once(end: float) -> Answer:
            async with self._call(end):
                raw = await self._openai.chat.completions.with_raw_response.create(**request)
                return _read(raw.content)

        return await self._patiently(once)

    async def stream(self, messages: Sequence[Message], max_tokens: int) -> AsyncIterator[str]:
        """Pieces of a reply as they come; retried only until the first one.

        Raises:
            ReporterError: it could not start, stalled, or was cut off.
        """
        end = time.monotonic() + self._options.deadline
        request = self._request(messages, max_tokens) | {"stream": True}

        async def start(end: float) -> Any:
            async with self._call(end):
                return await self._openai.chat.completions.create(**request)

        source = await self._patiently(start)
        finished = False
        try:
            chunks = aiter(source)
            while (chunk := await self._next(chunks, end)) is not None:
                for choice in chunk.choices[:1]:
                    finished = finished or choice.finish_reason is not None
                    if choice.delta.content:
                        yield choice.delta.content
        finally:
            await source.close()
        if not finished:
            raise ReporterUnreachableError("the server cut the reply off")

    async def close(self) -> None:
        """Close connections."""
        await self._openai.close()

    def _request(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        request: dict[str, Any] = {
            "model": self._model,
            "messages": list(messages),
            "max_completion_tokens": max_tokens,
            "store": False,
        }
        if self._options.temperature is not None:
            request["temperature"] = self._options.temperature
        return request

    async def _next(self, chunks: AsyncIterator[Any], end: float) -> Any:
        """The next chunk, None at the end."""
        limit = min(self._options.timeout, max(end - time.monotonic(), 0.0))
        try:
            async with asyncio.timeout(limit):
                return await anext(chunks, None)
        except _FAILURES as error:
            raise self._translate(error) from None

    async def _patiently(self, once: Callable[[float], Awaitable[T]]) -> T:
        """Retry what may help, as long as the deadline leaves room for the pause."""
        options = self._options
        backoff = tenacity.wait_random_exponential(multiplier=options.backoff, max=_MAX_PAUSE)
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: getattr(e, "retryable", False)),
            wait=lambda state: max(_retry_after(state), backoff(state)),
            stop=(
                tenacity.stop_after_attempt(options.attempts)
                | tenacity.stop_before_delay(options.deadline)
            ),
            reraise=True,
        )
        end = time.monotonic() + options.deadline
        try:
            async with asyncio.timeout(options.deadline):
                return await retrying(once, end)
        except TimeoutError as error:
            if isinstance(error, ReporterError):
                raise
            raise ReporterTimeoutError(
                f"no answer within the deadline of {options.deadline:g} s"
            ) from None

    @asynccontextmanager
    async def _call(self, end: float) -> AsyncIterator[None]:
        """One call: a slot, the gate's leave, a time limit, and a typed error."""
        async with self._slots:
            while wait := self._gate.admit():
                if time.monotonic() + wait > end:
                    raise CircuitOpenError(f"the server wants to be left alone for {wait:.0f} s")
                await asyncio.sleep(wait)
            self.calls += 1
            try:
                async with asyncio.timeout(self._options.timeout):
                    yield
            except _FAILURES as error:
                failure = self._translate(error)
                self._gate.failed(failure.retry_after)
                raise failure from None
            except BaseException:
                self._gate.abandoned()
                raise
            self._gate.succeeded()

    def _translate(self, error: BaseException) -> ReporterError:
        """What went wrong, in this engine's words; nothing of the request, never the key."""
        ours = error if isinstance(error, ReporterError) else error.__cause__
        if isinstance(ours, ReporterError):
            return ours
        if isinstance(error, (TimeoutError, openai.APITimeoutError)):
            return ReporterTimeoutError(f"no answer within {self._options.timeout:g} s")
        if isinstance(error, openai.APIStatusError):
            return ReporterStatusError(
                f"the server answered {error.status_code}: {self._said(error)}",
                status=error.status_code,
                retry_after=retry_after(error.response.headers),
            )
        if isinstance(error, (openai.APIConnectionError, httpx2.HTTPError)):
            cause = error.__cause__ or error
            return ReporterUnreachableError(
                f"no connection to the server: {str(cause)[:160] or type(cause).__name__}"
            )
        return ReplyError(f"the reply cannot be read ({type(error).__name__})")

    def _said(self, error: openai.APIStatusError) -> str:
        """The server's message, short; not where it may quote the key."""
        if error.status_code in (401, 403):
            return "it does not accept the key"
        return " ".join(str(error.message).replace(self._key, "***").split())[:160]


_FAILURES: Final = (
    ReporterError,
    openai.OpenAIError,
    httpx2.HTTPError,
    TimeoutError,
    ValueError,  # a stream's JSON
)


def resolve(options: ReporterOptions) -> tuple[str, str]:
    """Base URL and key from options, environment, default; in this order.

    Raises:
        ReporterSetupError: OpenAI itself, and no key.
    """
    base_url = options.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI
    api_key = options.api_key or os.environ.get("OPENAI_API_KEY")
    if not api_key and base_url == OPENAI:
        raise ReporterSetupError(
            "no key for ChatGPT: set OPENAI_API_KEY, pass api_key, or name another server "
            "(base_url) or a local model (gguf)"
        )
    return base_url, api_key or _NO_KEY


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a reply asks to be left alone: milliseconds, seconds or a date; else None."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return seconds if math.isfinite(seconds) and seconds >= 0 else None
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, OverflowError, TypeError):
        return None


def _retry_after(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return getattr(error, "retry_after", None) or 0.0


def _read(body: bytes) -> Answer:
    """The answer in a chat completion.

    Raises:
        ReplyError: no completion, no choice, refused, cut off or empty.
    """
    try:
        completion = _Completion.model_validate_json(body)
    except ValidationError:
        raise ReplyError("the reply is not a chat completion in JSON") from None
    if not completion.choices:
        raise ReplyError("the reply holds no choice")
    choice = completion.choices[0]
    if choice.message.refusal or choice.finish_reason == "content_filter":
        raise ReplyError("the model refused to answer")
    if choice.finish_reason == "length":
        raise ReplyError("the reply was cut off at the token limit")
    if not choice.message.content:
        raise ReplyError("the reply is empty")
    usage = completion.usage or _Usage()
    return Answer(
        text=choice.message.content,
        model=completion.model,
        fingerprint=completion.system_fingerprint,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _check(options: ReporterOptions) -> None:
    for name in ("timeout", "deadline", "attempts", "concurrency", "breaker_failures", "group"):
        if not getattr(options, name) > 0:
            raise ReporterSetupError(f"{name} must be above 0; got {getattr(options, name)!r}")
