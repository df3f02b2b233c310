"""A captioner with random weights becomes a bundle that says the same, or nothing at all."""

import errno
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Assessment, Engine, cli
from engine.bundle.store import DEFAULT_BUNDLE, open_bundle
from engine.errors import BundleCorruptError, BundleNotFoundError
from export import export, parity, slices, to_onnx
from export.__main__ import main
from export.errors import CheckpointError, ExportError


def test_export_load_assess(checkpoint: Path, tmp_path: Path, chest: NDArray[np.float32]) -> None:
    flat = np.where(chest > -500, 0.0, -1000.0)  # zero over zero, should export round a floor away
    slices = [chest, chest[::-1], chest.T, flat.astype(np.float32)]
    manifest = export(checkpoint, tmp_path / "bundle", slices)
    assert manifest.parity["captions_identical"] == 1.0
    assert manifest.parity["probability_max"] < 1e-4
    with Engine.load(tmp_path / "bundle") as engine:
        found = engine.assess(chest)
        assert isinstance(found, Assessment)
        assert not found.follows_template, "random weights do not write the template"
    export(checkpoint, tmp_path / "bundle", slices[:1])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_a_failed_parity_check_leaves_nothing(
    checkpoint: Path,
    tmp_path: Path,
    chest: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parity, "MAX_PROBABILITY_DIFFERENCE", -1.0)
    with pytest.raises(parity.ParityError, match="captions_identical 1"):
        export(checkpoint, tmp_path / "bundle", [chest])
    assert not list(tmp_path.iterdir())


def test_engines_and_proof_travel_with_the_bundle(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is there for x86-64 only")
    out = tmp_path / "bundle"
    target = ["--target", "tensorrt-rtx", "--compute-capability", "8.6"]
    assert main([str(checkpoint), "--out", str(out), "--count", "2", *target]) == 0
    assert "level agreement" in capfd.readouterr().out
    manifest = open_bundle(out).manifest
    assert (manifest.precision, manifest.decoder.cache) == ("fp16", "float16")
    assert [engine.graph for engine in manifest.engines] == ["encoder", "decoder"]
    assert any("stem amplitudes" in line for line in manifest.kept_fp32)
    assert manifest.provenance["onnxruntime"]
    assert manifest.parity["slices"] == 2
    assert cli.main(["bundle", "show", str(out)]) == 0
    assert "tensorrt-rtx 1." in capfd.readouterr().out
    (out / manifest.engines[0].file).write_bytes(b"")
    with pytest.raises(BundleCorruptError, match=r"8\.6\.engine"):
        open_bundle(out)


def test_a_killed_export_leaves_the_old_bundle_and_nothing_that_loads(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))
    command = [sys.executable, "-m", "export", str(checkpoint), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        while not list(tmp_path.glob(".export-*/bundle/*.onnx")):
            assert run.poll() is None, "the export ended before it could be killed"
            time.sleep(0.01)
        run.kill()
    assert open_bundle(out).manifest == open_bundle().manifest
    (scratch,) = tmp_path.glob(".export-*")
    with pytest.raises(BundleNotFoundError):
        open_bundle(scratch / "bundle")


def test_a_full_disk_is_named_and_leaves_nothing(
    checkpoint: Path,
    tmp_path: Path,
    chest: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No small disk can be had here: the operating system's answers are played."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(to_onnx, "export_encoder", full)
        with pytest.raises(ExportError, match="is full; nothing was written"):
            export(checkpoint, tmp_path / "bundle", [chest])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 9, 0))
    with pytest.raises(ExportError, match=r"0\.0 GB free, .* make room"):
        export(checkpoint, tmp_path / "bundle", [chest])
    assert not list(tmp_path.iterdir())


def test_only_a_bundle_is_ever_replaced(
    checkpoint: Path, tmp_path: Path, chest: NDArray[np.float32]
) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(ExportError, match="is no bundle"):
            export(checkpoint, out, [chest])
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--slices", "nowhere"], "nowhere does not exist"),
        (["--target", "cuda", "--precision", "int8"], "INT8 graphs are made for CPUs"),
        (["--target", "tensorrt-rtx", "--precision", "fp32"], "built from FP16 graphs"),
        (["--compute-capability", "8.6"], "the target cpu compiles nothing"),
        (["--prompt", "a picture of"], "fixed in training"),
        (["--windows=-160:240"], "fixed in training"),
    ],
)
def test_what_does_not_go_together_is_said_with_exit_code_2(
    checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main([str(checkpoint), "--out", str(tmp_path / "bundle"), *arguments]) == 2
    assert message in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("windows", ["1:2:3", "240:-160", "soft", "1:2,"])
def test_windows_that_are_none(windows: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--out", "x", f"--windows={windows}"])


@pytest.mark.parametrize(
    "about",
    ["[", "[1]", '{"calibration": {"noise": 1}}', '{"score_origin": "me"}', '{"metrics": 1}'],
)
def test_what_training_json_says_must_fit_the_manifest(
    checkpoint: Path, tmp_path: Path, chest: NDArray[np.float32], about: str
) -> None:
    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    (copy / "training.json").write_text(about)
    with pytest.raises(CheckpointError, match=r"training\.json"):
        export(copy, tmp_path / "bundle", [chest])
    assert not (tmp_path / "bundle").exists()


def test_no_slices(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="give at least one"):
        export(checkpoint, tmp_path / "bundle", [])


def test_slices_of_a_data_set_are_its_test_and_training_splits(tmp_path: Path) -> None:
    for i in range(6):
        np.save(tmp_path / f"{i}.npy", np.full((64, 64), float(i), np.float32))
    rows = [f"{i}.npy,2,{s}" for i, s in enumerate(["train", "test", "validation"] * 2)]
    (tmp_path / "data.csv").write_text("\n".join(["path,overall,split", *rows]))
    found = slices.read(tmp_path / "data.csv")
    assert [s[0, 0] for s in found.parity] == [1.0, 4.0]
    assert [s[0, 0] for s in found.calibration] == [0.0, 3.0]
    assert len(slices.read(tmp_path / "data.csv", count=1).parity) == 1
    assert len(slices.read(slices.EXAMPLES).parity) == 5
