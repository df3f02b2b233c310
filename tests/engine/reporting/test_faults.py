"""Whatever the server does, `assess` ends in time, with the template's report and the reason.

The server is local and misbehaves over real sockets; it stands in for OpenAI's service.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import (
    Assessment,
    CircuitOpenError,
    Engine,
    EngineClosedError,
    ReplyError,
    ReporterError,
    ReporterOptions,
    ReporterSetupError,
    ReporterStatusError,
    ReporterTimeoutError,
    ReporterUnreachableError,
)
from engine.reporting.base import Judged
from engine.reporting.stage import open_stage
from engine.template import ATTRIBUTES, caption
from tests.support import llm
from tests.support.llm import Behaviour, FakeServer

DEADLINE = 2.0
QUICK = ReporterOptions(
    api_key="sk-test",
    timeout=0.5,
    deadline=DEADLINE,
    attempts=2,
    backoff=0.01,
    breaker_failures=10_000,
    cache=None,
)
TWOS = dict.fromkeys(ATTRIBUTES, 2.0)


def _edited(path: list[str | int], value: object) -> Behaviour:
    """A reply of the schema but for one value."""
    whole = json.loads(llm.reply([TWOS]))
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return llm.answers(json.dumps(whole))


ROWS: dict[str, tuple[Behaviour, type[ReporterError], int]] = {
    # what the server does, what is reported, how often it was asked
    "408": (llm.status("408 Request Timeout"), ReporterStatusError, 2),
    "409": (llm.status("409 Conflict"), ReporterStatusError, 2),
    "429": (llm.status("429 Too Many Requests"), ReporterStatusError, 2),
    "429 seconds": (llm.status("429 Slow", "retry-after: 100"), ReporterStatusError, 1),
    "429 date": (
        llm.status("429 Slow", f"retry-after: {formatdate(time.time() + 900, usegmt=True)}"),
        ReporterStatusError,
        1,
    ),
    "429 nonsense": (llm.status("429 Slow", "retry-after: soon"), ReporterStatusError, 2),
    "429 endless": (llm.status("429 Slow", "retry-after: inf"), ReporterStatusError, 2),
    "500": (llm.status("500 Internal Server Error"), ReporterStatusError, 2),
    "503": (llm.status("503 Service Unavailable"), ReporterStatusError, 2),
    "401": (llm.status("401 Unauthorized"), ReporterStatusError, 1),
    "404": (llm.status("404 Not Found"), ReporterStatusError, 1),
    "redirect": (
        llm.status("307 Temporary Redirect", "location: http://127.0.0.1:9/"),
        ReporterStatusError,
        1,
    ),
    "stalled body": (llm.stall, ReporterTimeoutError, 2),
    "dripping body": (llm.drip, ReporterTimeoutError, 2),
    "cut body": (llm.raw(llm.http(b"{}" * 50)[:-20]), ReporterUnreachableError, 2),
    "hangs up": (llm.raw(b""), ReporterUnreachableError, 2),
    "not HTTP": (llm.raw(b"SSH-2.0-OpenSSH_9.2\r\n"), ReporterUnreachableError, 2),
    "not JSON": (llm.raw(llm.http(b"<html>Welcome</html>")), ReplyError, 1),
    "JSON of another kind": (llm.raw(llm.http(b'{"ok": true}')), ReplyError, 1),
    "compressed": (
        llm.raw(llm.http(b"\x1f\x8b", "200 OK", "content-encoding: gzip")),
        ReplyError,
        1,
    ),
    "enormous": (llm.flood, ReplyError, 1),
    "no choice": (llm.raw(llm.http(b'{"choices": [], "model": "m"}')), ReplyError, 1),
    "empty choice": (llm.answers(""), ReplyError, 1),
    "null choice": (llm.answers(None), ReplyError, 1),
    "refusal": (llm.answers(None, refusal="I cannot help with that."), ReplyError, 1),
    "filtered": (llm.answers("", finish_reason="content_filter"), ReplyError, 1),
    "token limit": (llm.answers('{"reports": [', finish_reason="length"), ReplyError, 1),
    "prose": (llm.answers("Noise looks fine to me!"), ReplyError, 1),
    "wrong schema": (llm.answers('{"reports": [{"id": 0}]}'), ReplyError, 1),
    "too many items": (llm.answers(llm.reply([TWOS, TWOS])), ReplyError, 1),
    "other id": (_edited(["reports", 0, "id"], 7), ReplyError, 1),
    "unknown key": (_edited(["reports", 0, "bonus"], 1), ReplyError, 1),
    "score above": (_edited(["reports", 0, "scores", "noise", "score"], 4.2), ReplyError, 1),
    "score below": (_edited(["reports", 0, "scores", "noise", "score"], -1), ReplyError, 1),
    "score as text": (_edited(["reports", 0, "scores", "noise", "score"], "3"), ReplyError, 1),
    "score missing": (_edited(["reports", 0, "scores", "noise", "score"], None), ReplyError, 1),
    "score infinite": (
        llm.answers(llm.reply([TWOS]).replace("2.0", "1e999", 1)),
        ReplyError,
        1,
    ),
    "endless line": (_edited(["reports", 0, "report", "impression"], "x" * 9999), ReplyError, 1),
    "suitability": (_edited(["reports", 0, "report", "suitability"], "perfect"), ReplyError, 1),
    "against the caption": (
        llm.answers(llm.reply([dict.fromkeys(ATTRIBUTES, 4.0) | {"noise": 0.0}])),
        ReplyError,
        1,
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with llm.serve() as running:
        yield running


@pytest.fixture
def asking(server: FakeServer) -> Iterator[Engine]:
    """An engine whose reporter is the misbehaving server; breaker and rate limit start afresh."""
    with Engine.load(threads=1, reporter=_at(server.base_url)) as loaded:
        yield loaded


def _at(url: str, **changes: object) -> ReporterOptions:
    return replace(QUICK, base_url=url, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", ROWS)
def test_every_fault_ends_in_the_templates_report(
    row: str, server: FakeServer, asking: Engine, chest: NDArray[np.float32]
) -> None:
    behaviour, kind, calls = ROWS[row]
    server.behaviours, before = [behaviour], len(server.received)
    begin = time.monotonic()
    found = asking.assess(chest)
    seconds = time.monotonic() - begin
    assert isinstance(found, Assessment)
    assert found.source == "template"
    assert found.report.provenance.reason is not None
    assert found.report.provenance.reason.startswith(kind.__name__)
    assert "sk-test" not in found.report.provenance.reason
    assert set(found.report.findings) == set(found.report.ratings) == set(ATTRIBUTES)
    assert found.report.ratings["noise"].value == found.scores["noise"].value
    assert len(server.received) - before == calls
    assert seconds < DEADLINE + 1.0


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"], ids=["refused", "DNS"]
)
def test_a_server_that_is_not_there(url: str, chest: NDArray[np.float32]) -> None:
    with Engine.load(threads=1, reporter=_at(url)) as engine:
        begin = time.monotonic()
        found = engine.assess(chest)
        assert time.monotonic() - begin < DEADLINE + 1.0
    assert isinstance(found, Assessment)
    assert found.source == "template"
    assert str(found.report.provenance.reason).startswith(
        ("ReporterUnreachableError", "ReporterTimeoutError")
    )


@pytest.mark.parametrize(
    "form",
    ["retry-after: 1", "retry-after-ms: 700", "date"],
)
def test_retry_after_is_waited_for(
    form: str, server: FakeServer, asking: Engine, chest: NDArray[np.float32]
) -> None:
    header = f"retry-after: {formatdate(time.time() + 2, usegmt=True)}" if form == "date" else form
    server.behaviours = [llm.status("429 Too Many Requests", header), llm.good]
    begin = time.monotonic()
    found = asking.assess(chest)
    assert isinstance(found, Assessment)
    assert found.source == "compatible"
    assert time.monotonic() - begin > 0.6


def test_required_raises_the_typed_error(server: FakeServer, chest: NDArray[np.float32]) -> None:
    server.behaviours = [llm.status("500 Internal Server Error")]
    with (
        Engine.load(threads=1, reporter=_at(server.base_url, required=True)) as engine,
        pytest.raises(ReporterStatusError, match="500") as caught,
    ):
        engine.assess(chest)
    assert caught.value.status == 500


def test_the_breaker_opens_and_lets_one_probe_through(
    server: FakeServer, chest: NDArray[np.float32]
) -> None:
    server.behaviours = [llm.status("500 Internal Server Error")]
    options = _at(server.base_url, attempts=1, breaker_failures=2, breaker_pause=0.3)
    before = len(server.received)
    with Engine.load(threads=1, reporter=options) as engine:
        reasons = []
        for _ in range(4):
            found = engine.assess(chest)
            assert isinstance(found, Assessment)
            reasons.append(str(found.report.provenance.reason).partition(":")[0])
        assert reasons == ["ReporterStatusError"] * 2 + [CircuitOpenError.__name__] * 2
        assert len(server.received) - before == 2
        server.behaviours = [llm.good]
        time.sleep(0.35)
        found = engine.assess(chest)
        assert isinstance(found, Assessment)
        assert found.source == "compatible"
        stats = engine.reporter_stats()
        assert stats is not None
        assert stats.breaker == "closed"


def test_no_key_is_said_at_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ReporterSetupError, match="OPENAI_API_KEY"):
        Engine.load(threads=1, reporter=ReporterOptions(cache=None))


def test_close_ends_a_request_under_way(server: FakeServer, chest: NDArray[np.float32]) -> None:
    server.behaviours = [llm.stall]
    before = len(server.received)
    stage = open_stage(_at(server.base_url, timeout=30.0, deadline=30.0))
    waiting = stage.submit([Judged(caption="Noise.", scores={})])
    while len(server.received) == before:
        time.sleep(0.01)
    stage.close()
    stage.close()
    with pytest.raises(CancelledError):
        waiting.result(timeout=5)


def test_closing_the_engine_ends_an_assess_that_waits(
    server: FakeServer, chest: NDArray[np.float32]
) -> None:
    server.behaviours = [llm.stall]
    before = len(server.received)
    engine = Engine.load(threads=1, reporter=_at(server.base_url, timeout=30.0, deadline=30.0))
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(engine.assess, chest)
        while len(server.received) == before:
            time.sleep(0.01)
        engine.close()
        with pytest.raises(EngineClosedError):
            waiting.result(timeout=5)
    with pytest.raises(EngineClosedError):
        engine.summarise([])


def test_no_more_calls_at_a_time_than_allowed(server: FakeServer) -> None:
    now = most = 0

    async def count(request: dict[str, object], writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.05)
        now -= 1
        await llm.good(request, writer)

    server.behaviours = [count]
    stage = open_stage(_at(server.base_url, concurrency=3, group=1))
    levels = range(5)
    texts = [caption(dict.fromkeys(ATTRIBUTES, n) | {"noise": m}) for n in levels for m in levels]
    reports = stage.submit([Judged(caption=text, scores={}) for text in texts]).result()
    stage.close()
    assert {report.source for report in reports} == {"compatible"}
    assert most == 3


@pytest.mark.parametrize("reporter", ["chatgpt", "required"])
def test_a_reporter_by_name_takes_the_environment(
    reporter: Literal["chatgpt", "required"],
    server: FakeServer,
    chest: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-from-the-environment")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.behaviours = [llm.good]
    with Engine.load(threads=1, reporter=reporter) as engine:
        found = engine.assess(chest)
    assert isinstance(found, Assessment)
    assert found.source == "compatible"
    assert b"Bearer sk-from-the-environment" in server.received[-1]
    assert (tmp_path / "iqagpt" / "replies.sqlite3").exists()


def test_an_unknown_reporter_is_refused() -> None:
    with pytest.raises(ReporterSetupError, match="required"):
        Engine.load(threads=1, reporter="gpt")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["timeout", "deadline", "attempts", "concurrency", "group"])
def test_options_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(ReporterSetupError, match=name):
        Engine.load(threads=1, reporter=_at("http://127.0.0.1:9/v1", **{name: 0}))
