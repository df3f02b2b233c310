"""GPT-4 with vision over real HTTP: consent, what is sent, retries, cache, cost.

OpenAI's own service was never asked: no key and no network here.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from engine.reporting.schema import json_schema
from tests.support import llm, vision
from training.rivals.__main__ import main
from training.rivals.judge import read_scores
from training.rivals.vision_llm import estimate, image_tokens


def command(data: Path, out: Path, server: llm.FakeServer, *more: str) -> list[str]:
    return ["vision-llm", str(data), "--out", str(out), "--base-url", server.base_url, *more]


def test_nothing_is_sent_without_consent(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with llm.serve(vision.sees) as server:
        assert main(command(data, tmp_path, server)) == 3
        assert server.received == []
    message = capsys.readouterr().err
    assert "--send-pixels" in message
    assert "burned" in message


def test_the_slice_goes_out_and_scores_come_back(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.data.formats import read_table

    with llm.serve(vision.sees) as server:
        run = command(data, tmp_path, server, "--send-pixels", "--prices", "2.5", "10")
        assert main(run) == 0
        first = server.requests[0]
        assert len(server.received) == 15
        assert main(run) == 0
        assert len(server.received) == 15  # all from the kept replies
    printed = capsys.readouterr().err
    assert "15 slices to ask for" in printed
    assert "0 slices to ask for" in printed
    assert "burned into the picture" in printed
    assert first["response_format"]["json_schema"]["schema"] == json_schema()
    assert first["store"] is False
    picture = vision.shown(first)
    assert (picture.size, picture.mode, picture.info) == ((512, 512), "L", {})
    rows = read_table(data)
    noise = read_scores(tmp_path, rows)[:, 0]
    noisy = rows.loc[rows["split"] == "test", "dose"] == 0.05
    assert noise[noisy].max() < noise[~noisy].min() + 1e-9


def test_failures_leave_holes_that_a_second_run_fills(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--send-pixels", "--attempts", "1", "--concurrency", "1"]
    with llm.serve(vision.sees, llm.answers("prose"), vision.sees) as server:
        assert main(command(data, tmp_path, server, *more)) == 0
        said = pd.read_csv(tmp_path / "scores.csv")
        assert said["noise"].isna().sum() == 1
        assert "no answer for slices/" in capsys.readouterr().err
        assert main(command(data, tmp_path, server, *more)) == 0
        assert len(server.received) == 16
    assert np.isfinite(pd.read_csv(tmp_path / "scores.csv")["noise"]).all()


def test_a_busy_server_is_asked_again(data: Path, tmp_path: Path) -> None:
    busy = llm.status("429 Too Many Requests", "retry-after: 0")
    with llm.serve(busy, vision.sees) as server:
        run = command(data, tmp_path, server, "--send-pixels", "--concurrency", "1")
        assert main(run) == 0
        assert len(server.received) == 16


def test_a_server_that_refuses_everything_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with llm.serve(llm.status("401 Unauthorized")) as server:
        assert main(command(data, tmp_path, server, "--send-pixels")) == 3
    assert "answered nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((1024, 1024), 765), ((2048, 4096), 1105), ((512, 512), 765)],
)
def test_tokens_of_a_picture_as_published(size: tuple[int, int], tokens: int) -> None:
    """The first two are the worked examples of OpenAI's guide."""
    assert image_tokens(*size) == tokens


def test_cost_is_tokens_times_price() -> None:
    found = estimate(1000, (2.0, 10.0))
    expected = (2.0 * found.prompt_tokens + 10.0 * found.completion_tokens) / 1e6
    assert found.cost == pytest.approx(expected)
    assert found.prompt_tokens > 765_000
    assert "no price" in str(estimate(1, None))
