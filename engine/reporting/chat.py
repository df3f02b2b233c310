"""A conversation about assessments: many turns, streamed, grounded in captions and scores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ChatError
from ..whole_file import written_whole
from .client import Message
from .facts import Items, chat_facts, quoted
from .prompts import CHAT, load
from .schema import plain

MAX_TURNS: Final = 20
MAX_CHARACTERS: Final = 24_000
"""Of questions and answers together; the oldest turns go first. Facts always stay."""
MAX_QUESTION: Final = 2_000
REPORT_QUESTION: Final = (
    "Write a quality report: findings for each attribute, impression, suitability for diagnosis, "
    "recommendation, limits."
)


class Turn(BaseModel):
    """A question and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    question: Annotated[str, Field(min_length=1, max_length=MAX_QUESTION)]
    answer: str


class _Saved(BaseModel):
    """A conversation on disk."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal[1] = 1
    prompt: str
    facts: dict[str, Any]
    turns: Annotated[list[Turn], Field(max_length=MAX_TURNS)]


class Line(Protocol):
    """The way to the model, for callers with and without an event loop."""

    def stream(self, messages: list[Message]) -> Iterator[str]:
        """Pieces of an answer."""
        ...

    def astream(self, messages: list[Message]) -> AsyncIterator[str]:
        """Pieces of an answer."""
        ...


class Chat:
    """Made by `Engine.chat` or `Engine.resume_chat`; one question at a time.

    A question that fails raises `ReporterError` and leaves the history as it was.
    """

    def __init__(self, line: Line, facts: dict[str, Any], turns: list[Turn] | None = None) -> None:
        """Use `Engine.chat`."""
        self._line, self._facts, self._turns = line, facts, list(turns or [])

    @classmethod
    def about(cls, line: Line, items: Items) -> Chat:
        """A new conversation."""
        return cls(line, chat_facts(items))

    @classmethod
    def resume(cls, line: Line, path: str | Path) -> Chat:
        """A saved conversation.

        Raises:
            ChatError: the file is missing, no saved conversation, or of another prompt version.
        """
        try:
            saved = _Saved.model_validate_json(Path(path).read_bytes())
        except (OSError, ValidationError) as error:
            raise ChatError(f"{path} holds no saved conversation: {error}") from error
        if saved.prompt != CHAT:
            raise ChatError(f"{path} was made with prompt {saved.prompt}; this engine has {CHAT}")
        return cls(line, saved.facts, saved.turns)

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said, oldest first; bounded."""
        return tuple(self._turns)

    def save(self, path: str | Path) -> None:
        """Write the conversation as JSON: facts and turns, whole or not at all."""
        saved = _Saved(prompt=CHAT, facts=self._facts, turns=self._turns)
        with written_whole(Path(path)) as part:
            part.write_text(saved.model_dump_json(indent=1), "utf-8")

    def say(self, question: str) -> Iterator[str]:
        """Pieces of the answer as they come, for callers without an event loop.

        Raises:
            ChatError: the question is empty or too long.
            ReporterError: no answer; the turn is not kept.
        """
        messages = self._messages(_sound(question))
        pieces: list[str] = []
        for piece in self._line.stream(messages):
            pieces.append(_shown(piece))
            yield pieces[-1]
        self._keep(question, "".join(pieces))

    async def stream(self, question: str) -> AsyncIterator[str]:
        """As `say`, for callers on an event loop."""
        messages = self._messages(_sound(question))
        pieces: list[str] = []
        async for piece in self._line.astream(messages):
            pieces.append(_shown(piece))
            yield pieces[-1]
        self._keep(question, "".join(pieces))

    async def ask(self, question: str) -> str:
        """The whole answer; raises as `say` does."""
        return "".join([piece async for piece in self.stream(question)])

    def report(self) -> Iterator[str]:
        """A report in prose, streamed; raises as `say` does."""
        return self.say(REPORT_QUESTION)

    def _messages(self, question: str) -> list[Message]:
        """Rules, facts, history, question; facts and questions only ever as JSON."""
        messages = [
            {"role": "system", "content": load(CHAT).text},
            {"role": "user", "content": quoted({"FACTS": self._facts})},
            {"role": "assistant", "content": "I know these facts and nothing else."},
        ]
        for turn in self._turns:
            messages.append({"role": "user", "content": quoted({"question": turn.question})})
            messages.append({"role": "assistant", "content": turn.answer})
        return [*messages, {"role": "user", "content": quoted({"question": question})}]

    def _keep(self, question: str, answer: str) -> None:
        self._turns.append(Turn(question=question, answer=answer))
        while len(self._turns) > MAX_TURNS or (
            len(self._turns) > 1 and self._size() > MAX_CHARACTERS
        ):
            del self._turns[0]

    def _size(self) -> int:
        return sum(len(turn.question) + len(turn.answer) for turn in self._turns)


def _sound(question: str) -> str:
    if not question.strip() or len(question) > MAX_QUESTION:
        raise ChatError(f"a question has 1 to {MAX_QUESTION} characters; got {len(question)}")
    return question


def _shown(piece: str) -> str:
    """A piece without control characters but for line breaks: it may go to a terminal."""
    return "\n".join(_spaces(part) for part in piece.replace("\r", "").split("\n"))


def _spaces(text: str) -> str:
    """`plain` would trim the spaces between two pieces."""
    return str(plain(f"|{text}|"))[1:-1]
