"""The language-model reporter: captions in, reports out, the template where the model fails.

Equal captions share one request, through the cache and through requests still under way. Several
captions travel in one request; one that does not follow the template travels alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from ..assessment import Provenance, Report, SeriesReport, Source
from ..errors import ReplyError, ReporterError
from ..template import LEVELS, MAX_SCORE, follows_template
from . import facts
from .base import Judged, template_report
from .cache import ReplyCache, key
from .client import OPENAI, Answer, Client, Message, resolve
from .local import LocalServer
from .options import ReporterOptions
from .prompts import SERIES, SLICE, Prompt, load
from .schema import Item, json_schema, local_schema, read_reply, schema_digest

_LOG: Final = logging.getLogger(__name__)
_LOCAL_LINE: Final = 80
"""Characters of a line that a small local model is held to: without it, it may never end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReporterStats:
    """What the reporter did since it was made.

    Attributes:
        slices: slices it was asked for.
        fallbacks: slices that got the template's report.
        calls: HTTP calls, retries included.
        hits, misses: distinct captions found in the cache, and not.
        cache_errors: times the cache could not be read or written.
        prompt_tokens, completion_tokens, cost: of all replies.
        breaker: state of the circuit breaker.
    """

    slices: int
    fallbacks: int
    calls: int
    hits: int
    misses: int
    cache_errors: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    breaker: str

    @property
    def hit_rate(self) -> float:
        """Share of distinct captions that the cache knew, 0 … 1."""
        return self.hits / max(self.hits + self.misses, 1)


class _Written(BaseModel):
    """One reply as the cache keeps it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    item: Item
    model: str
    fingerprint: str | None
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class _Found:
    """A reply, and whether it came from the cache."""

    written: _Written
    cached: bool


_Outcome = _Found | ReporterError


class Writer:
    """Writes reports with one model. Its coroutines belong to one event loop."""

    def __init__(self, options: ReporterOptions) -> None:
        """Open cache, local server and client; nothing is sent yet.

        Raises:
            ReporterSetupError: no key, no such model file, or an option out of range.
            MissingExtraError: a local model, and the extra `local` is not installed.
            OfflineError: the network is forbidden and the server is not on this machine.
        """
        self._local = LocalServer(options.gguf, options.threads) if options.gguf else None
        if self._local is not None:
            base_url, api_key = self._local.base_url, self._local.api_key
            # One caption at a time: those that wait in llama.cpp's queue would run into `timeout`.
            self._options = replace(
                options, group=1, concurrency=1, temperature=options.temperature or 0.0
            )
            model, self._identity = self._local.model, self._local.digest
        else:
            base_url, api_key = resolve(options)
            self._options, model, self._identity = options, options.model, base_url
        self.source: Source = _source(base_url) if self._local is None else "local"
        self.client = Client(self._options, base_url=base_url, api_key=api_key, model=model)
        self._model = model
        self._schema = local_schema(_LOCAL_LINE) if self._local else json_schema()
        self._cache = ReplyCache(options.cache, options.cache_bytes)
        self._under_way: dict[str, asyncio.Task[dict[str, _Outcome]]] = {}
        self._slices = self._fallbacks = self._hits = self._misses = 0
        self._prompt_tokens = self._completion_tokens = 0

    def stats(self) -> ReporterStats:
        """Figures so far."""
        return ReporterStats(
            slices=self._slices,
            fallbacks=self._fallbacks,
            calls=self.client.calls,
            hits=self._hits,
            misses=self._misses,
            cache_errors=self._cache.errors,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            cost=self._cost(self._prompt_tokens, self._completion_tokens),
            breaker=self.client.breaker,
        )

    async def reports(self, judged: Sequence[Judged]) -> list[Report]:
        """One report for each, in order; the template's, with the reason, where the model failed.

        Raises:
            ReporterError: one failed, and the options require the model.
        """
        prompt = load(SLICE)
        outcomes = await self._outcomes(prompt, [item.caption for item in judged])
        reports = [self._report(prompt, item, outcomes[item.caption]) for item in judged]
        self._slices += len(reports)
        self._fallbacks += sum(report.source == "template" for report in reports)
        return reports

    async def series(self, items: facts.Items) -> SeriesReport:
        """The summary of a series; the template's, with the reason, where the model failed.

        Raises:
            ReporterError: it failed, and the options require the model.
        """
        summary = facts.series(items)
        if not summary.assessed:
            return summary
        text = facts.quoted(facts.series_facts(items, summary))
        prompt = load(SERIES)
        bounds = {
            name: (
                LEVELS.index(min(counts, key=LEVELS.index)),
                LEVELS.index(max(counts, key=LEVELS.index)),
            )
            for name, counts in summary.counts.items()
        }
        found = (await self._outcomes(prompt, [text]))[text]
        report = self._checked(prompt, found, bounds)
        if isinstance(report, ReporterError):
            provenance = replace(summary.report.provenance, reason=self._reason(report))
            report = replace(summary.report, provenance=provenance)
        return replace(summary, report=report)

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        """Pieces of a free answer, for conversations."""
        async for piece in self.client.stream(messages, self._options.max_tokens):
            yield piece

    async def close(self) -> None:
        """End requests, close connections, cache and local server."""
        tasks = set(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.close()
        self._cache.close()
        if self._local is not None:
            self._local.close()

    async def _outcomes(self, prompt: Prompt, texts: Iterable[str]) -> dict[str, _Outcome]:
        """A reply or an error for each distinct text: from the cache, under way, or asked now."""
        keys = {text: self._key(prompt, text) for text in texts}
        outcomes: dict[str, _Outcome] = {}
        known = await asyncio.to_thread(self._cache.get, keys.values())
        for text, name in keys.items():
            if (written := _stored(known.get(name))) is not None:
                outcomes[text] = _Found(written, cached=True)
        self._hits += len(outcomes)
        self._misses += len(keys) - len(outcomes)
        fresh = [t for t, name in keys.items() if t not in outcomes and name not in self._under_way]
        for group in self._groups(prompt, fresh):
            task = asyncio.create_task(self._ask(prompt, group))
            for text in group:
                self._under_way[keys[text]] = task
        waiting = {text: self._under_way[keys[text]] for text in keys if text not in outcomes}
        if waiting:  # `wait`, unlike `gather`, leaves a shared request alive if we are cancelled
            await asyncio.wait(waiting.values())
        return outcomes | {text: task.result()[text] for text, task in waiting.items()}

    def _groups(self, prompt: Prompt, texts: list[str]) -> list[list[str]]:
        """Texts that travel together: known wording in groups, everything else alone."""
        together = [text for text in texts if prompt.version == SLICE and follows_template(text)]
        size = self._options.group
        groups = [together[first : first + size] for first in range(0, len(together), size)]
        return groups + [[text] for text in texts if text not in set(together)]

    async def _ask(self, prompt: Prompt, texts: list[str]) -> dict[str, _Outcome]:
        """Ask for one group; whatever goes wrong becomes the outcome of each of its texts."""
        keys = {text: self._key(prompt, text) for text in texts}
        try:
            answer = await self.client.ask(
                _messages(prompt, texts), self._schema, self._options.max_tokens * len(texts)
            )
            self._prompt_tokens += answer.prompt_tokens
            self._completion_tokens += answer.completion_tokens
            items = read_reply(answer.text, len(texts))
            written = {t: self._written(i, answer) for t, i in zip(texts, items, strict=True)}
            rows = {keys[text]: one.model_dump_json() for text, one in written.items()}
            await asyncio.to_thread(self._cache.put, rows)
        except ReporterError as error:
            return dict.fromkeys(texts, error)
        except Exception as error:  # noqa: BLE001 (a report must never cost the assessment)
            _LOG.warning("reporter failed unexpectedly: %s", type(error).__name__)
            _LOG.debug("traceback", exc_info=True)
            return dict.fromkeys(texts, ReporterError(f"unexpected {type(error).__name__}"))
        finally:
            for name in keys.values():
                self._under_way.pop(name, None)
        return {text: _Found(one, cached=False) for text, one in written.items()}

    def _written(self, item: Item, answer: Answer) -> _Written:
        return _Written(
            item=item,
            model=answer.model or self._model,
            fingerprint=answer.fingerprint,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
        )

    def _report(self, prompt: Prompt, judged: Judged, outcome: _Outcome) -> Report:
        levels = {name: LEVELS.index(score.level) for name, score in judged.scores.items()}
        bounds = {name: (level, level) for name, level in levels.items()}
        report = self._checked(prompt, outcome, bounds)
        if isinstance(report, ReporterError):
            return template_report(judged.scores, self._reason(report))
        return report

    def _checked(
        self, prompt: Prompt, outcome: _Outcome, bounds: Mapping[str, tuple[int, int]]
    ) -> Report | ReporterError:
        """The report, unless a rating strays from what the captions state."""
        if isinstance(outcome, ReporterError):
            return outcome
        written, tolerance = outcome.written, self._options.tolerance
        report = written.item.to_report(
            Provenance(
                source=self.source,
                model=written.model,
                fingerprint=written.fingerprint,
                prompt=prompt.version,
                cached=outcome.cached,
                prompt_tokens=written.prompt_tokens,
                completion_tokens=written.completion_tokens,
                cost=self._cost(written.prompt_tokens, written.completion_tokens),
            )
        )
        for name, (low, high) in bounds.items():
            value = report.ratings[name].value
            if tolerance is not None and not low - tolerance <= value <= high + tolerance:
                stated = LEVELS[low] if low == high else f"{LEVELS[low]} to {LEVELS[high]}"
                return ReplyError(
                    f"the model rates {name} {value:g} of {MAX_SCORE:g}, the caption says {stated}"
                )
        return report

    def _reason(self, error: ReporterError) -> str:
        """Why the template writes.

        Raises:
            ReporterError: `error`, where the options require the model.
        """
        if self._options.required:
            raise error
        return f"{type(error).__name__}: {error}"

    def _cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        if self._options.prices is None:
            return None
        per_prompt, per_completion = self._options.prices
        return (prompt_tokens * per_prompt + completion_tokens * per_completion) / 1e6

    def _key(self, prompt: Prompt, text: str) -> str:
        return key(
            self._identity,
            self._model,
            self._options.temperature,
            prompt.version,
            prompt.digest,
            schema_digest(),
            text,
        )


def _messages(prompt: Prompt, texts: list[str]) -> list[Message]:
    """Instructions and data apart: the text of a caption is only ever inside a JSON string."""
    if prompt.version == SLICE:
        described = [{"id": n, "text": t[: facts.MAX_CAPTION]} for n, t in enumerate(texts)]
        data = facts.quoted({"descriptions": described})
    else:
        (data,) = texts
    return [{"role": "system", "content": prompt.text}, {"role": "user", "content": data}]


def _stored(text: str | None) -> _Written | None:
    """A cached reply; None where there is none, or none that this version can read."""
    try:
        return None if text is None else _Written.model_validate_json(text)
    except ValidationError:
        return None


def _source(base_url: str) -> Source:
    host = base_url.partition("://")[2].partition("/")[0].lower()
    return "chatgpt" if base_url == OPENAI or host.endswith(".openai.azure.com") else "compatible"
