"""Verdicts on samples whose truth is known, through the command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.compare import main, verdict
from benchmarks.harness import machine
from benchmarks.harness.schema import BundleFacts, Distribution, Machine, Memory
from benchmarks.latency.report import LatencyReport, Scenario, Stages

Write = Callable[..., str]


def spells(seed: int, factor: float = 1.0, n: int = 200) -> list[float]:
    """Seconds around 16 ms with noise that comes in spells, as on a shared machine."""
    random = np.random.default_rng(seed)
    noise = np.zeros(n)
    for i in range(1, n):
        noise[i] = 0.8 * noise[i - 1] + random.normal(0, 0.02)
    return list(0.016 * factor * np.exp(noise))


def latency(query: list[float], stage: list[float], **changed: Any) -> LatencyReport:
    times, part = Distribution.of_seconds(query), Distribution.of_seconds(stage)
    scenario = Scenario(
        scenario="SingleStream",
        batch=1,
        slices=len(query),
        query=times,
        rate=Distribution.of_rates([1 / value for value in query]),
        slices_per_second=1 / float(np.mean(query)),
        stages=Stages(**dict.fromkeys(Stages.model_fields, part)),
        decoder_passes=1.0,
        draft_accepted=40.0,
        tokens=41.0,
        mismatches=0,
    )
    whole: dict[str, Any] = {
        "machine": Machine.model_validate(machine.describe()),
        "bundle": BundleFacts(name="b", version="1", precision="fp32", family="f", sha256="0" * 64),
        "device": "cpu",
        "threads": None,
        "complete": True,
        "failures": [],
        "publishable": True,
        "sgemm_gflops": 100.0,
        "warmup": 10,
        "iterations": 30,
        "seconds": 10.0,
        "first_assessment_s": 0.5,
        "results": {"SingleStream 1": scenario},
        "memory": Memory(peak_rss_mb=100.0, peak_vram_mb=None, buffers_bytes={}),
    }
    return LatencyReport(**(whole | changed))


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, query: list[float], stage: list[float], **changed: Any) -> str:
        path = tmp_path / name
        path.write_text(latency(query, stage, **changed).model_dump_json())
        return str(path)

    return written


@pytest.mark.parametrize(
    ("factor", "code", "said"),
    [(1.0, 0, "no difference shown"), (1.5, 1, "slower"), (0.6, 0, "faster")],
)
def test_verdicts(
    factor: float, code: int, said: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write("a.json", spells(1), spells(2))
    b = write("b.json", spells(3, factor), spells(4))
    assert main([a, b]) == code
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    lines = {line["name"]: line for line in result["lines"]}
    query = lines["results / SingleStream 1 / query"]
    assert query["verdict"] == said
    assert query["low"] <= query["ratio"] <= query["high"]
    assert query["ratio"] == pytest.approx(factor, rel=0.1)
    rate = lines["results / SingleStream 1 / rate"]
    assert rate["verdict"] == said, "a higher rate is the same news as a shorter time"


def test_two_runs_of_the_same_thing_are_the_same(write: Write) -> None:
    """Thirty pairs whose noise comes in spells: a plain bootstrap would call some of them."""
    codes = [
        main([write("a.json", spells(2 * i), [0.01]), write("b.json", spells(2 * i + 1), [0.01])])
        for i in range(30)
    ]
    assert sum(codes) == 0


@pytest.mark.parametrize(("factor", "code"), [(1.2, 0), (1.6, 1)])
def test_a_slower_machine_is_not_a_slower_version(
    factor: float, code: int, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    """The machine's own product took 1.3 times as long in B."""
    a = write("a.json", spells(1), spells(2), sgemm_gflops=130.0)
    b = write("b.json", spells(3, factor), spells(4), sgemm_gflops=100.0)
    assert main([a, b]) == code
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["margin"] == pytest.approx(0.3)
    other = write("c.json", spells(3, factor), spells(4), sgemm_gflops=10.0, device="cuda")
    main([a, other, "--across"])
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["margin"] == 0.05, "another device is what is to be compared"


def test_a_slower_stage_alone_is_shown_but_decides_nothing(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write("a.json", spells(1), spells(2)), write("b.json", spells(3), spells(4, 2.0))
    assert main([a, b]) == 0
    lines = json.loads(capsys.readouterr().out.splitlines()[-1])["lines"]
    assert {line["verdict"] for line in lines if not line["decisive"]} == {"slower"}


@pytest.mark.parametrize("changed", ["machine", "bundle", "device"])
def test_other_machine_or_bundle_only_if_asked(
    changed: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    here = latency(spells(1), spells(2))
    other = {
        "machine": here.machine.model_copy(update={"cpu": "Another CPU"}),
        "bundle": here.bundle.model_copy(update={"sha256": "1" * 64}),
        "device": "cuda",
    }[changed]
    a = write("a.json", spells(1), spells(2))
    b = write("b.json", spells(1), spells(2), **{changed: other})
    assert main([a, b]) == 2
    assert "--across" in capsys.readouterr().err
    assert main([a, b, "--across"]) == 0
    assert "differs" in capsys.readouterr().out, "marked"


def test_incomplete_runs_are_marked(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    a = write("a.json", spells(1), spells(2))
    b = write("b.json", spells(1), spells(2), complete=False, failures=["Offline 8: interrupted"])
    assert main([a, b]) == 0
    assert "B is incomplete: Offline 8: interrupted" in capsys.readouterr().out


def test_few_samples_show_nothing(write: Write) -> None:
    a, b = write("a.json", [0.01] * 5, [0.01]), write("b.json", [0.05] * 5, [0.01])
    assert main([a, b]) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "null",
        '{"schema_id": "iqagpt-latency-1"}',
        '{"schema_id": "iqagpt-latency-2"}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_other_files_are_refused(
    text: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert main([write("a.json", spells(1), spells(2)), str(tmp_path / "x.json")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_line_on_stdout_has_no_samples_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.harness.output import finish

    finish(latency(spells(1), spells(2)), None)
    (tmp_path / "x.json").write_text(capsys.readouterr().out)
    assert main([str(tmp_path / "x.json")] * 2) == 2
    assert "--json FILE" in capsys.readouterr().err


@given(st.floats(0.01, 100), st.floats(1.0, 10), st.floats(0, 0.5))
def test_swapping_the_files_swaps_the_verdict(low: float, width: float, margin: float) -> None:
    high = low * width
    swapped = {"faster": "slower", "slower": "faster"}
    there = verdict(low, high, "lower", margin)
    assert verdict(low, high, "higher", margin) == swapped.get(there, there)
