"""The reporting step of the engine: futures of reports for captions, whoever writes them.

The template's stage needs no package beyond the engine's own; the model's stage (`ModelStage`)
loads `openai`, so it is imported only when one is asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from ..assessment import Report, SeriesReport
from ..errors import ReporterSetupError
from . import facts
from .base import Judged, template_report
from .options import ReporterOptions

if TYPE_CHECKING:
    from .chat import Chat
    from .client import Message
    from .writer import ReporterStats


class ReportStage(Protocol):
    """Turns captions into reports; open until `close`."""

    def submit(self, judged: Sequence[Judged]) -> Future[list[Report]]:
        """Reports in the same order; the future holds a `ReporterError` only where required."""
        ...

    def series(self, items: facts.Items) -> SeriesReport:
        """The summary of a series."""
        ...

    def chat(self, items: facts.Items) -> Chat:
        """A new conversation; `ReporterSetupError` without a model."""
        ...

    def resume_chat(self, path: str | Path) -> Chat:
        """A saved conversation; `ReporterSetupError` without a model."""
        ...

    def stats(self) -> ReporterStats | None:
        """Figures so far; None for the template."""
        ...

    def close(self) -> None:
        """Give everything back; safe to call twice."""
        ...


class TemplateStage:
    """The template writes everything, at once."""

    def submit(self, judged: Sequence[Judged]) -> Future[list[Report]]:
        """See `ReportStage.submit`."""
        done: Future[list[Report]] = Future()
        done.set_result([template_report(item.scores) for item in judged])
        return done

    def series(self, items: facts.Items) -> SeriesReport:
        """See `ReportStage.series`."""
        return facts.series(items)

    def chat(self, items: facts.Items) -> Chat:  # noqa: ARG002 (the protocol's)
        """See `ReportStage.chat`."""
        raise ReporterSetupError(_NO_MODEL)

    def resume_chat(self, path: str | Path) -> Chat:  # noqa: ARG002 (the protocol's)
        """See `ReportStage.resume_chat`."""
        raise ReporterSetupError(_NO_MODEL)

    def stats(self) -> None:
        """See `ReportStage.stats`."""

    def close(self) -> None:
        """See `ReportStage.close`."""


_NO_MODEL = "a conversation needs a language model: Engine.load(reporter=ReporterOptions(...))"


class ModelStage:
    """A language model writes, on an event loop of its own that all callers share."""

    def __init__(self, options: ReporterOptions) -> None:
        """Open the model's client.

        Raises:
            ReporterSetupError, MissingExtraError, OfflineError: see `writer.Writer`.
        """
        from .background import Background
        from .writer import Writer

        self._background = Background()

        async def make() -> Writer:
            return Writer(options)

        try:
            self._writer = self._background.call(make())
        except BaseException:
            self._background.close()
            raise
        self._closed = False

    def submit(self, judged: Sequence[Judged]) -> Future[list[Report]]:
        """See `ReportStage.submit`."""
        return self._background.submit(self._writer.reports(judged))

    def series(self, items: facts.Items) -> SeriesReport:
        """See `ReportStage.series`."""
        return self._background.call(self._writer.series(items))

    def chat(self, items: facts.Items) -> Chat:
        """See `ReportStage.chat`."""
        from .chat import Chat

        return Chat.about(self, items)

    def resume_chat(self, path: str | Path) -> Chat:
        """See `ReportStage.resume_chat`."""
        from .chat import Chat

        return Chat.resume(self, path)

    def stream(self, messages: list[Message]) -> Iterator[str]:
        """See `chat.Line.stream`."""
        return self._background.iterate(self._writer.stream(messages))

    def astream(self, messages: list[Message]) -> AsyncIterator[str]:
        """See `chat.Line.astream`."""
        return self._background.aiterate(self._writer.stream(messages))

    def stats(self) -> ReporterStats:
        """See `ReportStage.stats`."""
        return self._writer.stats()

    def close(self) -> None:
        """See `ReportStage.close`."""
        if not self._closed:
            self._closed = True
            self._background.call(self._writer.close())
            self._background.close()


Choice = ReporterOptions | Literal["chatgpt", "required"] | None
"""Who writes: a model by options; ChatGPT with all defaults, with or without the template behind
it; None: the template."""


def open_stage(reporter: Choice) -> ReportStage:
    """The stage for that choice.

    Raises:
        ReporterSetupError: no such choice, or the options cannot work.
    """
    if reporter is None:
        return TemplateStage()
    if isinstance(reporter, str):
        if reporter not in ("chatgpt", "required"):
            raise ReporterSetupError(
                f'no reporter {reporter!r}; there are "chatgpt", "required", ReporterOptions(…) '
                "and None, the template"
            )
        reporter = ReporterOptions(required=reporter == "required")
    return ModelStage(reporter)
