"""Tiny runs of the real command: structure and sane values, no judgement of speed."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.latency.__main__ import main
from benchmarks.latency.report import LatencyReport
from engine import BackendError, Engine

TINY = ["--iterations", "5", "--seconds", "0", "--warmup", "1"]


def report(captured: str) -> LatencyReport:
    """The last line of stdout, checked against the published schema."""
    return LatencyReport.model_validate_json(captured.splitlines()[-1])


def test_latency_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "l.json"), "--plot", str(tmp_path / "l.png")]
    assert main(["--batch", "2", "--precision", "fp32", *TINY, *files]) == 0
    found = report(capsys.readouterr().out)
    assert (found.complete, found.publishable, found.failures) == (True, False, [])
    assert set(found.results) == {"SingleStream 1", "MultiStream 2", "Offline 2"}
    for result in found.results.values():
        assert result.query.n == 5
        assert result.slices == 5 * result.batch
        assert result.stages.encode.n == result.slices
        assert result.query.percentiles == {}, "five runs support no percentile"
        assert result.query.samples is None, "the line on stdout is short"
        assert result.mismatches == 0
        assert result.tokens == pytest.approx(result.decoder_passes + result.draft_accepted)
        assert result.decoder_passes >= 1
        first, decode = result.stages.first_token, result.stages.decode
        assert 0 < first.mean <= decode.mean
    alone = found.results["SingleStream 1"]
    assert alone.query.least > alone.stages.encode.least, "end to end holds its stages"
    assert found.first_assessment_s is not None
    assert found.first_assessment_s > 0
    assert found.memory.peak_rss_mb > 50
    written = LatencyReport.model_validate_json((tmp_path / "l.json").read_text())
    samples = written.results["SingleStream 1"].query.samples
    assert samples is not None
    assert len(samples) == 5
    assert (tmp_path / "l.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--bundle", "no/such/folder"], "no bundle at"),
        (["--precision", "int8"], "python -m export"),
        (["--device", "abacus"], "abacus"),
        (["--scenario", "multi", "--batch", "1"], "--batch"),
    ],
)
def test_what_cannot_be_measured(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, *TINY]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "{" not in captured.out, "no result was made up"


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), BackendError("graph failed")])
def test_incomplete_run_says_so(
    raised: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scenario stopped half-way. The error is raised by hand: neither Ctrl-C nor a broken graph
    comes at a chosen slice."""
    genuine, calls = Engine.assess, 0

    def assess(self: Engine, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise raised
        return genuine(self, *args, **kwargs)

    monkeypatch.setattr(Engine, "assess", assess)
    assert main(["--scenario", "single", "offline", "--batch", "2", *TINY]) == 1
    found = report(capsys.readouterr().out)
    assert not found.complete
    assert found.failures[0].startswith("SingleStream 1: ")
    assert set(found.results) == {"Offline 2"}, "the others are measured all the same"
