"""A tiny run of the real command in real processes; figures from known answers."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks.peers import compare
from benchmarks.peers.__main__ import main
from benchmarks.peers.contestants import CONTESTANTS, REFERENCE, Contestant, chosen
from benchmarks.peers.measure import Outcome
from benchmarks.peers.process import Answer, PeerError, Worker
from benchmarks.peers.protocol import Setup


def _setup(**options: object) -> Setup:
    return Setup(
        pixels="nowhere.npy",
        checkpoint="",
        bundle="",
        graphs="",
        prompt=(1, 2),
        end=3,
        max_length=8,
        threads=1,
        max_batch=1,
        options=dict(options),
    )


def test_smoke(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, bundle, graph and three processes; every caption equals the checkpoint's own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tiny products: threads would wait for each other
    names = ["ours-fp32", REFERENCE, "ort-growing", "tensorrt-gpu"]
    sizes = ["--batch", "1", "2", "--iterations", "2", "--seconds", "0", "--threads", "1"]
    files = ["--plot", str(tmp_path / "p.png"), "--json", str(tmp_path / "r.json")]
    place = ["--workdir", str(tmp_path / "work")]
    code = main(["--model", "blip-tiny", "--peers", *names, *sizes, *files, *place])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0, report
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert "random" in report["weights"]
    assert [part["batch"] for part in report["results"]] == [1, 2]
    for part in report["results"]:
        ran = part["contestants"]
        assert set(names) - ran.keys() <= {"tensorrt-gpu"}
        for row in ran.values():
            assert row["n"] == 2
            assert row["captions"] == 2 * part["batch"]
            assert row["mismatched"] == 0
            assert 0 < row["encode"]["median"] < row["total"]["median"]
        assert 1 <= ran["ours-fp32"]["passes"] <= 4, "drafts of a model that obeys are accepted"
        least = ran["ours-fp32"]["least"]
        assert 0 < least["encode"] < least["total"]
        assert least["total"] < ran["ours-fp32"]["total"]["median"], "nobody beats the roofline"
        speedup = ran[REFERENCE]["speedup"]["ours-fp32"]["total"]
        assert 0 < speedup["low"] <= speedup["value"] <= speedup["high"]
    gpu = report["contestants"]["tensorrt-gpu"]
    assert gpu["not_run"] == "no GPU" or "tensorrt-gpu" in report["results"][0]["contestants"]
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_unknown_contestant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "default", "--peers", "hf-static", "--workdir", str(tmp_path)]) == 2
    assert "hf-eager" in capsys.readouterr().err, "the message names those there are"


def test_default_bundle_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The embedded bundle runs; who needs its weights says so, and nothing counts as compared."""
    sizes = ["--batch", "1", "--iterations", "2", "--seconds", "0", "--threads", "1"]
    names = ["ours-fp32", REFERENCE]
    code = main(["--model", "default", "--peers", *names, *sizes, "--workdir", str(tmp_path)])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0
    assert "--checkpoint" in report["contestants"][REFERENCE]["not_run"]
    (part,) = report["results"]
    assert part["contestants"].keys() == {"ours-fp32"}
    assert part["contestants"]["ours-fp32"]["mismatched"] is None


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("benchmarks.peers.nobody:Peer", "nobody"),
        ("benchmarks.peers.ours:Ours", "bundle"),
        ("sys:exit", "ended without an answer"),
    ],
)
def test_a_worker_that_cannot_load_says_why(kind: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=cause):
        Worker(kind, _setup(), python=Path(sys.executable), log=tmp_path / "log")


def test_setup_survives_the_wire() -> None:
    setup = _setup(device="cpu")
    assert Setup.from_json(setup.to_json()) == setup
    assert "\n" not in setup.to_json()


def test_contestants_can_be_told_apart() -> None:
    assert len({c.name for c in CONTESTANTS}) == len(CONTESTANTS)
    assert {"optimum", "openvino"} <= {c.name for c in chosen(None, "vit-gpt2-base")}
    assert "optimum" not in {c.name for c in chosen(None, "blip-base")}


def _outcome(name: str, seconds: float, tokens: list[int], spread: float = 0.0) -> Outcome:
    contestant = next(c for c in CONTESTANTS if c.name == name)
    answers = [
        Answer(
            tokens=[tokens],
            encode=0.25 * (seconds + spread * i),
            total=seconds + spread * i,
            peak_rss_mb=1.0,
        )
        for i in range(-4, 5)
    ]
    return Outcome(contestant, answers={1: answers})


def test_targets_are_judged_from_what_was_measured() -> None:
    outcomes = [
        _outcome("ours-fp32", 1.0, [5, 3]),
        _outcome("ours-int8", 0.5, [6, 3]),
        _outcome(REFERENCE, 4.0, [5, 3], spread=0.01),
        _outcome("ort-growing", 1.4, [5, 3]),
        _outcome("openvino-bf16", 1.2, [5, 3]),
    ]
    rows = compare.figures(outcomes, 1)
    assert rows["ours-int8"]["mismatched"] == 9
    assert rows["ours-fp32"]["mismatched"] == 0
    assert rows[REFERENCE]["speedup"]["ours-fp32"]["total"]["value"] == pytest.approx(4.0)
    assert rows[REFERENCE]["speedup"]["ours-fp32"]["decode"]["value"] == pytest.approx(4.0)
    found = {line["target"]: line["verdict"] for line in compare.targets({1: rows}, [])}
    assert found["FP32 end to end against hf-eager"] == "reached"
    assert found["FP32 decode stage against hf-eager"] == "missed: 40% of it"
    assert found["FP32 against the fastest FP32 peer, ort-growing"] == "missed: 93% of it"
    assert found["INT8 against the fastest peer, openvino-bf16"] == "reached"
    assert not any("INT8 end to end" in name for name in found), "this CPU has no VNNI"


def test_a_target_beyond_the_roofline_says_so() -> None:
    outcomes = [_outcome("ours-fp32", 2.0, [5, 3]), _outcome(REFERENCE, 4.0, [5, 3])]
    rows = compare.figures(outcomes, 1)
    rows["ours-fp32"]["least"] = {"encode": 0.4, "decode": 1.0, "total": 1.4}
    total, decode, *_ = compare.targets({1: rows}, [])
    assert total["most"] == pytest.approx(4.0 / 1.4)
    assert total["verdict"] == "missed: 57% of it, out of this machine's reach"
    assert decode["most"] == pytest.approx(3.0)
    assert decode["verdict"] == "missed: 20% of it, out of this machine's reach"
    rows["ours-fp32"]["least"]["total"] = 0.5
    assert compare.targets({1: rows}, [])[0]["verdict"] == "missed: 57% of it"


def test_a_fast_engine_with_other_tokens_reaches_nothing() -> None:
    outcomes = [_outcome("ours-fp32", 0.1, [7, 3]), _outcome(REFERENCE, 4.0, [5, 3])]
    (line, *_) = compare.targets({1: compare.figures(outcomes, 1)}, ["avx512_vnni"])
    assert line["verdict"] == "missed: 9 captions differ from hf-eager's"


def test_missing_contestants_leave_targets_unjudged() -> None:
    only: Contestant = next(c for c in CONTESTANTS if c.name == "ours-fp32")
    rows = compare.figures([Outcome(only, failed="no memory")], 1)
    assert rows == {}
    assert all("did not run" in line["verdict"] for line in compare.targets({1: rows}, []))
