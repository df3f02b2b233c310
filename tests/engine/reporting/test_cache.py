"""Equal captions are asked once: in a batch, under way, and across processes."""

import json
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Assessment, Engine, ReporterOptions
from engine.cli import main
from engine.reporting.base import Judged
from engine.reporting.cache import ReplyCache, key
from engine.reporting.stage import open_stage
from engine.template import ATTRIBUTES, caption
from tests.support import llm

CAPTIONS = [caption(dict.fromkeys(ATTRIBUTES, level)) for level in range(5)]


def _options(server: llm.FakeServer, path: Path | None) -> ReporterOptions:
    return ReporterOptions(base_url=server.base_url, api_key="k", cache=path, group=2)


def _judged(captions: list[str]) -> list[Judged]:
    return [Judged(caption=text, scores={}) for text in captions]


def test_equal_captions_share_a_request(tmp_path: Path) -> None:
    with llm.serve() as server:
        stage = open_stage(_options(server, tmp_path / "cache" / "replies.sqlite3"))
        reports = stage.submit(_judged(CAPTIONS * 20)).result()
        assert len(server.received) == 3  # five captions, two to a request
        assert [r.ratings["noise"].value for r in reports] == [0, 1, 2, 3, 4] * 20
        again = stage.submit(_judged(CAPTIONS)).result()
        assert len(server.received) == 3
        assert all(r.provenance.cached for r in again)
        assert all(r.provenance.model == "model-2026" for r in again)
        stats = stage.stats()
        assert stats is not None
        assert (stats.hits, stats.misses, stats.calls) == (5, 5, 3)
        assert stats.hit_rate == pytest.approx(0.5)
        assert stats.prompt_tokens == 300
        stage.close()


def test_requests_under_way_are_shared() -> None:
    with llm.serve() as server:
        stage = open_stage(_options(server, None))
        futures = [stage.submit(_judged(CAPTIONS[:1])) for _ in range(50)]
        assert {f.result()[0].ratings["noise"].value for f in futures} == {0.0}
        assert len(server.received) < 10
        stage.close()


@pytest.mark.parametrize("change", [{"model": "other"}, {"temperature": 0.5}])
def test_another_question_is_another_entry(tmp_path: Path, change: dict[str, object]) -> None:
    with llm.serve() as server:
        options = _options(server, tmp_path / "replies.sqlite3")
        for chosen in (options, replace(options, **change)):  # type: ignore[arg-type]
            stage = open_stage(chosen)
            stage.submit(_judged(CAPTIONS[:1])).result()
            stage.close()
        assert len(server.received) == 2


def test_failures_are_not_kept(tmp_path: Path) -> None:
    with llm.serve(llm.answers("prose"), llm.good) as server:
        stage = open_stage(_options(server, tmp_path / "replies.sqlite3"))
        sources = [stage.submit(_judged(CAPTIONS[:1])).result()[0].source for _ in range(2)]
        assert sources == ["template", "compatible"]
        stage.close()


def test_a_new_process_finds_the_replies(
    tmp_path: Path, examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "replies.sqlite3"
    with llm.serve() as server:
        arguments = [
            "assess", str(examples), "--reporter", "required", "--base-url", server.base_url,
            "--cache", str(path), "--json", str(tmp_path / "found.jsonl"),
        ]  # fmt: skip
        assert main(arguments) == 0
        calls = len(server.received)
        run = subprocess.run(
            [sys.executable, "-m", "engine", *arguments], capture_output=True, text=True, check=True
        )
        assert "cache hits 100%" in " ".join(run.stderr.split())
        assert len(server.received) == calls
    assert main(["cache", "show", "--cache", str(path)]) == 0
    lines = (tmp_path / "found.jsonl").read_text().splitlines()
    captions = {json.loads(line)["caption"] for line in lines}  # equal ones share a reply
    assert f"{len(captions)} replies" in capsys.readouterr().out
    assert main(["cache", "clear", "--cache", str(path)]) == 0
    assert ReplyCache(path, 10**6).size() == (0, 0)


def test_least_recently_used_replies_go_first(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "c.sqlite3", limit=30)
    cache.put({"a": "x" * 10})
    cache.put({"b": "x" * 10})
    cache.put({"c": "x" * 10})
    cache.get(["a"])
    cache.put({"d": "x" * 10})
    assert set(cache.get("abcd")) == {"a", "c", "d"}
    assert cache.size() == (3, 30)
    cache.close()
    assert cache.get("a") == {}


def test_threads_and_connections_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite3"
    caches = [ReplyCache(path, 10**6) for _ in range(4)]

    def work(number: int) -> None:
        for place in range(25):
            caches[number].put({f"{number}-{place}": "text"})
            caches[number].get([f"{(number + 1) % 4}-{place}"])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert caches[0].size()[0] == 100
    assert [cache.errors for cache in caches] == [0] * 4
    for cache in caches:
        cache.close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough" * 40, b""])
def test_a_broken_cache_costs_nothing_but_hits(
    tmp_path: Path, chest: NDArray[np.float32], content: bytes
) -> None:
    path = tmp_path / "replies.sqlite3"
    path.write_bytes(content)
    with (
        llm.serve() as server,
        Engine.load(threads=1, reporter=_options(server, path)) as engine,
    ):
        found = engine.assess(chest)
        assert isinstance(found, Assessment)
        assert found.source == "compatible"
        stats = engine.reporter_stats()
        assert stats is not None
        assert stats.cache_errors == (1 if content else 0)


def test_a_foreign_entry_is_a_miss(tmp_path: Path) -> None:
    path = tmp_path / "replies.sqlite3"
    with llm.serve() as server:
        for _ in range(2):
            stage = open_stage(_options(server, path))
            stage.submit(_judged(CAPTIONS[:1])).result()
            stage.close()
            base = sqlite3.connect(path)
            with base:
                base.execute("UPDATE replies SET value = '{}'")
            base.close()
        assert len(server.received) == 2


def test_keys_tell_parts_apart() -> None:
    assert key("ab", "c") != key("a", "bc")
