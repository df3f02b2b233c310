"""TensorRT-RTX engines of the default model are really built here; no GPU, so none is run."""

import shutil
from pathlib import Path

import pytest

from engine.bundle.store import DEFAULT_BUNDLE, read_manifest
from export import fp16, to_tensorrt
from export.errors import ExportError, TargetError
from export.to_tensorrt import BUILD_LOG, BuildOptions

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is there for x86-64 only")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The default bundle's graphs."""
    for name in ("encoder.onnx", "decoder.onnx"):
        shutil.copyfile(DEFAULT_BUNDLE / name, tmp_path / name)
    return tmp_path


def test_engines_of_the_default_model(folder: Path) -> None:
    for name in ("encoder.onnx", "decoder.onnx"):
        fp16.to_fp16(folder / name)
    before = (folder / "decoder.onnx").read_bytes()
    decoder = read_manifest(DEFAULT_BUNDLE).decoder
    options = BuildOptions(runtime="tensorrt-rtx", compute_capabilities=("8.6", "8.9"))
    parts = to_tensorrt.build(folder, decoder, options)
    assert [(p.graph, p.compute_capability) for p in parts] == [
        (graph, capability) for capability in ("8.6", "8.9") for graph in ("encoder", "decoder")
    ]
    assert all((folder / part.file).stat().st_size > 1_000_000 for part in parts)
    assert parts[1].profile.length == (1, 64, decoder.max_length)
    assert f"--maxShapes=tokens:8x{decoder.max_length}" in parts[1].settings
    assert "--stronglyTyped" in parts[1].settings
    assert "Engine generation completed" in (folder / BUILD_LOG).read_text()
    assert str(folder) not in (folder / BUILD_LOG).read_text()
    left = {p.name for p in folder.iterdir()}
    assert left == {"encoder.onnx", "decoder.onnx", BUILD_LOG, *(part.file for part in parts)}
    assert (folder / "decoder.onnx").read_bytes() == before


def test_what_the_runtime_refuses_is_an_error_with_its_words(folder: Path) -> None:
    """FP32 graphs, in whose attention it takes FP16 only."""
    options = BuildOptions(runtime="tensorrt-rtx", compute_capabilities=("8.6",))
    with pytest.raises(ExportError, match="TensorRT says: ERROR"):
        to_tensorrt.build(folder, read_manifest(DEFAULT_BUNDLE).decoder, options)
    assert not list(folder.glob("*.engine"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            BuildOptions(runtime="tensorrt-rtx", compute_capabilities=("4.2",)),
            r"4\.2 is not among .*8\.6.*nvidia-smi",
        ),
        (BuildOptions(runtime="tensorrt-rtx"), "no compute capability was named"),
        (BuildOptions(runtime="tensorrt"), "need the package tensorrt|shows none"),
    ],
)
def test_what_cannot_be_built_is_said_at_once(options: BuildOptions, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        to_tensorrt.check(options)
