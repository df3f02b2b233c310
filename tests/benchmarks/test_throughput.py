"""Tiny runs of the real command: structure, and sums that must hold."""

from pathlib import Path

import pydicom
import pytest

from benchmarks.throughput.__main__ import main
from benchmarks.throughput.report import ThroughputReport
from benchmarks.throughput.whole import make_study
from engine import ImageFileError
from engine.dicom.series import SliceSource

TINY = ["--requests", "12", "--seconds", "0", "--warmup", "1"]


def report(captured: str) -> ThroughputReport:
    """The last line of stdout, checked against the published schema."""
    return ThroughputReport.model_validate_json(captured.splitlines()[-1])


def test_throughput_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "t.json"), "--plot", str(tmp_path / "t.png")]
    sizes = ["--clients", "1", "3", "--study-slices", "12", "--soak-slices", "20", "--batch", "4"]
    assert main([*sizes, *TINY, *files]) == 0
    found = report(capsys.readouterr().out)
    closed = [load for load in found.loads.values() if load.loop == "closed"]
    opened = [load for load in found.loads.values() if load.loop == "open"]
    assert [load.clients for load in closed] == [1, 3]
    rates = [load.offered for load in opened]
    assert len(rates) == 8
    assert rates == sorted(rates, key=lambda rate: rate or 0.0)
    for load in found.loads.values():
        lost = load.queue_full + load.deadline + load.failed
        assert load.sent == load.answered + lost >= 12
        assert load.goodput <= load.slices_per_second
        assert not load.within_bound, "twelve slices support no p99"
    for load in closed:
        assert sum(int(size) * n for size, n in load.batches.items()) == load.answered
    assert closed[0].batches == {"1": closed[0].answered}, "one client fills no batch"
    assert found.best_within_bound is None
    assert found.study is not None
    assert (found.study.slices, found.study.failed) == (12, 0)
    assert found.study.decode_s > 0
    assert found.soak is not None
    assert [point.slices for point in found.soak.memory] == list(range(1, 21))
    assert (tmp_path / "t.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("limits", "counter"),
    [(["--queue", "1"], "queue_full"), (["--timeout", "0.001"], "deadline")],
)
def test_shed_load_is_counted(
    limits: list[str], counter: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Far more arrivals than any machine answers."""
    flood = ["--part", "open", "--rates", "5000", "--requests", "60", "--seconds", "0"]
    assert main([*flood, "--warmup", "0", *limits]) == 0
    (load,) = report(capsys.readouterr().out).loads.values()
    assert getattr(load, counter) > 0
    assert load.sent == 60 == load.answered + load.queue_full + load.deadline
    assert not load.within_bound


def test_study_is_one_series_of_distinct_slices(tmp_path: Path) -> None:
    make_study(tmp_path, 7)
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in tmp_path.iterdir()]
    assert len({header.SOPInstanceUID for header in headers}) == 7
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    slices = [item for item in SliceSource([tmp_path]) if not isinstance(item, ImageFileError)]
    assert [item.position for item in slices] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--bundle", "no/such/folder"], "no bundle at"), (["--precision", "int8"], "export")],
)
def test_what_cannot_be_measured(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_open_loop_alone_needs_rates(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--part", "open"])
    assert ended.value.code == 2
    assert "--rates" in capsys.readouterr().err
