"""A tiny run of the real command: structure and sane values, no judgement of speed."""

import json
from pathlib import Path

import pytest

from benchmarks.harness.stats import summarise
from benchmarks.latency import STAGES, main


def test_latency_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--batch", "1", "2", "--iterations", "5", "--seconds", "0", "--warmup", "1"]
    assert main([*sizes, "--plot", str(tmp_path / "p.png")]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["schema"] == "iqagpt-latency-1"
    assert [r["batch"] for r in report["results"]] == [1, 2]
    for result in report["results"]:
        assert result["run"]["n"] == 5
        assert "p99_ms" not in result["run"], "five runs do not support a p99"
        assert set(result["stages_per_slice"]) == set(STAGES)
        assert result["decoder_passes_mean"] >= 1
    assert report["first_assessment_s"] > 0
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_percentiles_need_enough_runs() -> None:
    assert set(summarise([1.0] * 4)) == {"n", "mean_ms", "stdev_ms"}
    assert summarise([0.001 * i for i in range(1, 302)])["p99_ms"] == pytest.approx(298)
