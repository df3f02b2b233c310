"""FP32, FP16 and INT8 graphs against the source: equal, near, and found out when they are not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from engine.backends.base import CacheType
from engine.bundle.manifest import DECODER, ENCODER, CalibrationPart
from engine.errors import BackendError
from engine.template import ATTRIBUTES
from export import fp16, int8, parity, to_onnx
from export.errors import ParityError
from export.sources.base import Source

Pixels = list[NDArray[np.float32]]
CALIBRATION = {name: CalibrationPart(slope=1.0, intercept=0.0) for name in ATTRIBUTES}


@pytest.fixture
def folder(graphs: Path, tmp_path: Path) -> Path:
    """A copy of the FP32 graphs."""
    return Path(shutil.copytree(graphs, tmp_path / "graphs"))


def measure(
    source: Source, folder: Path, pixels: Pixels, cache: CacheType = "float32"
) -> dict[str, float]:
    return parity.measure(source, folder, pixels, calibration=CALIBRATION, cache=cache)


def test_fp32_says_what_generate_says_with_a_prompt(
    source: Source, folder: Path, pixels: Pixels
) -> None:
    assert len(source.facts.tokens.prompt) == 4, "BOS and three words"
    found = measure(source, folder, pixels)
    assert found["captions_identical"] == found["level_agreement"] == 1.0
    assert found["generate_checked"] == len(pixels)
    assert found["score_slots"] >= len(pixels)
    assert found["probability_max"] < 1e-4
    parity.check(found, "fp32")


def test_fp16_is_half_as_large_and_near(source: Source, folder: Path, pixels: Pixels) -> None:
    before = (folder / DECODER).stat().st_size
    kept = [line for name in (ENCODER, DECODER) for line in fp16.to_fp16(folder / name)]
    assert (folder / DECODER).stat().st_size < 0.55 * before
    assert any("LayerNormalization" in line for line in kept)
    assert any("softmax" in line for line in kept)
    assert types(folder / DECODER)["past_key_0"] == onnx.TensorProto.FLOAT16
    assert types(folder / DECODER)["level_logprobs"] == onnx.TensorProto.FLOAT
    found = measure(source, folder, pixels, "float16")
    assert found["batch_identical"] == found["drafted_identical"] == 1.0
    assert found["score_mean"] <= parity.MAX_SCORE_DIFFERENCE


def test_int8_is_small_and_depends_on_neither_batch_nor_draft(
    source: Source, folder: Path, pixels: Pixels
) -> None:
    before = (folder / ENCODER).stat().st_size
    how, kept = int8.to_int8(source, folder, pixels[:2])
    assert "2 slices" in how
    assert any("vocabulary" in line for line in kept)
    assert (folder / ENCODER).stat().st_size < 0.6 * before
    for name in (ENCODER, DECODER):
        to_onnx.check(folder / name)  # standard operators only
    found = measure(source, folder, pixels)
    assert found["batch_identical"] == found["drafted_identical"] == 1.0
    assert found["score_mean"] <= parity.MAX_SCORE_DIFFERENCE


def test_one_negated_weight_is_found_out(source: Source, folder: Path, pixels: Pixels) -> None:
    change(folder / DECODER, np.negative)
    found = measure(source, folder, pixels[:2])
    assert "captions_identical" in parity.failed(found, "fp32")
    assert found["score_max"] > 0.0
    with pytest.raises(ParityError, match="captions_identical 0") as caught:
        parity.check(found, "fp32")
    assert caught.value.figures == found


@pytest.mark.parametrize("name", [ENCODER, DECODER])
def test_nan_fails(source: Source, folder: Path, pixels: Pixels, name: str) -> None:
    change(folder / name, lambda weight: np.full_like(weight, np.nan))
    with pytest.raises(BackendError, match="NaN"):
        measure(source, folder, pixels[:1])


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nan_and_drift_miss_their_gates(precision: parity.Precision) -> None:
    good = dict.fromkeys(parity.gates(precision), 1.0) | {"score_mean": 0.0, "probability_max": 0.0}
    assert parity.failed(good, precision) == []
    for name in parity.gates(precision):
        assert parity.failed(good | {name: float("nan")}, precision) == [name]
    assert parity.failed(good | {"score_mean": 0.041}, precision) == ["score_mean"]
    assert parity.failed(good | {"level_agreement": 0.989}, precision) == ["level_agreement"]


def test_a_custom_operator_is_refused(folder: Path) -> None:
    model = onnx.load(folder / DECODER)
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, folder / DECODER)
    with pytest.raises(RuntimeError, match=r"custom operators of com\.microsoft"):
        to_onnx.check(folder / DECODER)


def test_large_weights_lie_beside_the_graph_and_nowhere_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: Source, pixels: Pixels
) -> None:
    monkeypatch.setattr(to_onnx, "INSIDE_LIMIT", 1_000_000)
    for name in (ENCODER, DECODER):
        to_onnx.save(onnx.load(folder / name), folder / name)
        assert to_onnx.data_file(folder / name).stat().st_size > 1_000_000
    kept = [fp16.to_fp16(folder / name) for name in (ENCODER, DECODER)]
    assert all(kept)
    assert measure(source, folder, pixels[:1], "float16")["batch_identical"] == 1.0
    model = onnx.load(folder / ENCODER, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../outside.data"
    (folder / ENCODER).write_bytes(model.SerializeToString())
    with pytest.raises((RuntimeError, onnx.checker.ValidationError)):
        to_onnx.check(folder / ENCODER)


def types(path: Path) -> dict[str, int]:
    """Element type of every input and output of a graph."""
    graph = onnx.load(path, load_external_data=False).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)}


def change(path: Path, how: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
    """Change the largest weight of a graph."""
    model = onnx.load(path)
    tensor = max(model.graph.initializer, key=lambda t: t.ByteSize())
    array = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(how(array), tensor.name))
    onnx.save(model, path)
