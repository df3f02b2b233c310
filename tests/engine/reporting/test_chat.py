"""Conversations: grounded, streamed, bounded, resumable."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import (
    Assessment,
    ChatError,
    Engine,
    NonFiniteError,
    ReporterError,
    ReporterOptions,
    ReporterSetupError,
)
from engine.cli import main
from engine.reporting import chat as chats
from tests.support import llm
from tests.support.llm import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with llm.serve() as running:
        yield running


@pytest.fixture
def talking(server: FakeServer) -> Iterator[Engine]:
    options = ReporterOptions(
        base_url=server.base_url, cache=None, timeout=0.5, deadline=1.0, attempts=1
    )
    with Engine.load(threads=1, reporter=options) as loaded:
        yield loaded


@pytest.fixture
def assessed(talking: Engine, chest: NDArray[np.float32]) -> Assessment:
    found = talking.assess(chest)
    assert isinstance(found, Assessment)
    return found


def test_the_model_is_told_the_facts_and_nothing_else(
    server: FakeServer, talking: Engine, chest: NDArray[np.float32]
) -> None:
    bad = chest.copy()
    bad[0, 0] = np.nan
    found = talking.assess([chest, bad, chest - 3])
    assert isinstance(found[1], NonFiniteError)
    chat = talking.chat(found)
    assert list(chat.say("Which is worst?")) == ["Slice 0 ", "is ", "fair."]
    messages = server.requests[-1]["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    facts = json.loads(messages[1]["content"])["FACTS"]
    assert (facts["slices"], facts["assessed"]) == (3, 2)
    assert [entry["slice"] for entry in facts["listed"]] == [0, 2]
    first = facts["listed"][0]
    assert isinstance(found[0], Assessment)
    assert first["text"] == found[0].caption
    assert first["scores"]["noise"]["score"] == round(found[0].scores["noise"].value, 1)
    assert 0 <= first["scores"]["noise"]["confidence"] <= 1
    assert "no pixels" in messages[0]["content"]
    assert json.loads(messages[-1]["content"]) == {"question": "Which is worst?"}


def test_ask_is_asynchronous_and_remembers(
    server: FakeServer, talking: Engine, assessed: Assessment
) -> None:
    async def talk() -> list[str]:
        chat = talking.chat(assessed)
        return [await chat.ask("How is it?"), *[piece async for piece in chat.stream("And now?")]]

    assert asyncio.run(talk()) == ["Slice 0 is fair.", "Slice 0 ", "is ", "fair."]
    messages = server.requests[-1]["messages"]
    assert messages[4] == {"role": "assistant", "content": "Slice 0 is fair."}


def test_a_failed_question_is_not_kept_and_the_next_one_works(
    server: FakeServer, talking: Engine, assessed: Assessment
) -> None:
    chat = talking.chat(assessed)
    for fault in (
        llm.raw(llm.sse(["Slice "], finish=False)),
        llm.stall,
        llm.status("500 Internal Server Error"),
        llm.raw(llm.sse(["a"], finish=False) + b"data: {nonsense\n\n"),
    ):
        server.behaviours = [fault]
        with pytest.raises(ReporterError):
            "".join(chat.say("How is it?"))
        assert chat.turns == ()
    server.behaviours = [llm.good]
    assert "".join(chat.report()) == "Slice 0 is fair."
    assert len(chat.turns) == 1


def test_history_is_bounded(
    server: FakeServer, talking: Engine, assessed: Assessment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chats, "MAX_TURNS", 3)
    chat = talking.chat(assessed)
    for number in range(6):
        "".join(chat.say(f"question {number}"))
    assert [turn.question for turn in chat.turns] == [f"question {n}" for n in (3, 4, 5)]
    monkeypatch.setattr(chats, "MAX_CHARACTERS", 30)
    "".join(chat.say("a long question, longer than all"))
    assert len(chat.turns) == 1
    assert json.loads(server.requests[-1]["messages"][1]["content"])["FACTS"]["slices"] == 1


def test_a_saved_conversation_goes_on(
    server: FakeServer, talking: Engine, assessed: Assessment, tmp_path: Path
) -> None:
    chat = talking.chat(assessed)
    "".join(chat.say("How is it?"))
    chat.save(tmp_path / "talk.json")
    again = talking.resume_chat(tmp_path / "talk.json")
    assert again.turns == chat.turns
    "".join(again.say("And then?"))
    assert len(server.requests[-1]["messages"]) == 6


@pytest.mark.parametrize("content", ["", "{}", '{"format": 9}', "[1]"])
def test_what_is_no_conversation_is_refused(talking: Engine, tmp_path: Path, content: str) -> None:
    (tmp_path / "talk.json").write_text(content)
    with pytest.raises(ChatError, match=r"talk\.json"):
        talking.resume_chat(tmp_path / "talk.json")


@pytest.mark.parametrize("question", ["", "  ", "x" * 5000])
def test_a_question_is_bounded(talking: Engine, assessed: Assessment, question: str) -> None:
    with pytest.raises(ChatError):
        "".join(talking.chat(assessed).say(question))


def test_control_characters_do_not_reach_the_terminal(
    server: FakeServer, talking: Engine, assessed: Assessment
) -> None:
    server.behaviours = [llm.raw(llm.sse(["a\x1b[2J\nb \x9b", "\u202ec"]))]
    assert "".join(talking.chat(assessed).say("?")) == "a [2J\nb   c"


def test_without_a_model_there_is_no_conversation(
    engine: Engine, chest: NDArray[np.float32], tmp_path: Path
) -> None:
    found = engine.assess(chest)
    assert isinstance(found, Assessment)
    with pytest.raises(ReporterSetupError, match="ReporterOptions"):
        engine.chat(found)
    with pytest.raises(ReporterSetupError):
        engine.resume_chat(tmp_path)


def test_in_the_terminal(
    server: FakeServer,
    examples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    questions = iter(["How is it?", "", "And slice 1?"])
    monkeypatch.setattr("builtins.input", lambda _: _next(questions))
    saved = str(tmp_path / "talk.json")
    options = ["--base-url", server.base_url, "--no-cache", "--offline", "--save", saved]
    assert main(["chat", str(examples), *options]) == 0
    shown = capsys.readouterr().out
    assert "slice 0: chest-low-dose.dcm" in shown
    assert shown.count("Slice 0 is fair.") == 2
    questions = iter(["More?"])
    assert main(["chat", "--resume", saved, *options]) == 0
    assert len(json.loads(Path(saved).read_text())["turns"]) == 3
    assert main(["chat"]) == 2


def _next(lines: Iterator[str]) -> str:
    try:
        return next(lines)
    except StopIteration:
        raise EOFError from None
