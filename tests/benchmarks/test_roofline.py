"""Costs of graphs that can be counted by hand, and a tiny run of the real command."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from benchmarks.roofline.__main__ import main
from benchmarks.roofline.costs import Cost, CostError, cost
from benchmarks.roofline.model import Roof, gpus
from engine.bundle.store import open_bundle


def _graph(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[int | str]],
    outputs: list[str],
    weights: dict[str, np.ndarray],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 23)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=11), path)
    return path


def test_product_convolution_and_attention_by_hand(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["c"], strides=[2, 2], kernel_shape=[2, 2]),
        helper.make_node("Reshape", ["c", "heads"], ["q"]),
        helper.make_node("Attention", ["q", "q", "q"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["y"]),
    ]
    weights = {
        "kernel": np.ones((8, 3, 2, 2), np.float32),
        "heads": np.array([0, 2, 4, 4], np.int64),
        "w": np.ones((4, 5), np.float32),
    }
    path = _graph(tmp_path / "g.onnx", nodes, {"pixels": ["batch", 3, 4, 4]}, ["y"], weights)
    found = cost(path, batch=3)
    convolution = 2 * (3 * 8 * 2 * 2) * (3 * 2 * 2)
    attention = 2 * (3 * 2) * (4 * 4) * (4 + 4)
    product = 2 * (3 * 2 * 4 * 5) * 4
    assert found.float_ops == convolution + attention + product
    assert found.int8_ops == 0
    weight_bytes = 4 * (8 * 3 * 2 * 2 + 4 * 5) + 8 * 4
    assert found.least_bytes == weight_bytes + 4 * (3 * 3 * 4 * 4) + 4 * (3 * 2 * 4 * 5)
    assert found.unfused_bytes > found.least_bytes


def test_quantised_product_counts_as_int8_and_a_byte_a_weight(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    weights = {
        "w": np.ones((16, 8), np.int8),
        "s": np.float32(0.1).reshape(()),
        "z": np.uint8(0).reshape(()),
    }
    path = _graph(tmp_path / "q.onnx", nodes, {"x": ["batch", 16]}, ["y"], weights)
    found = cost(path, batch=2)
    assert (found.float_ops, found.int8_ops) == (0, 2 * 2 * 16 * 8)
    assert found.least_bytes == 16 * 8 + 4 + 1 + 4 * 2 * (16 + 8)


def test_a_value_without_shape_is_an_error_not_zero(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "f"], ["y"]),
    ]
    path = _graph(tmp_path / "n.onnx", nodes, {"x": ["batch", 4]}, ["y"], {})
    with pytest.raises(CostError, match="no shape for"):
        cost(path, batch=1)


def test_the_default_bundle_scales_as_it_should() -> None:
    folder = open_bundle(None).folder
    one, four = (cost(folder / "encoder.onnx", batch=n) for n in (1, 4))
    assert four.ops == pytest.approx(4 * one.ops)
    assert one.least_bytes < four.least_bytes < 4 * one.least_bytes, "weights move once"
    step, verify = (cost(folder / "decoder.onnx", batch=1, length=n) for n in (1, 40))
    assert verify.ops == pytest.approx(40 * step.ops)
    assert verify.intensity > step.intensity


@given(ops=st.floats(1, 1e15), moved=st.floats(1, 1e12), scale=st.floats(1.1, 100))
def test_a_bound_is_the_slower_of_two(ops: float, moved: float, scale: float) -> None:
    roof = Roof(float_rate=1e12, int8_rate=2e12, bandwidth=1e11)
    work = Cost(float_ops=ops, int8_ops=0.0, least_bytes=moved, unfused_bytes=moved)
    bound, limit = roof.bound(work)
    assert bound == max(ops / 1e12, moved / 1e11)
    assert limit == ("arithmetic" if ops / 1e12 > moved / 1e11 else "memory")
    more = Cost(float_ops=ops * scale, int8_ops=0.0, least_bytes=moved, unfused_bytes=moved)
    assert roof.bound(more)[0] >= bound


def test_every_gpu_names_its_source() -> None:
    found = gpus("fp32")
    assert {g.kind.split(",")[0] for g in found} == {"workstation", "embedded", "data centre"}
    assert all("NVIDIA" in g.source and g.roof.traffic == 0.5 for g in found)


def test_smoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--batch", "1", "--iterations", "2", "--seconds", "0", "--threads", "1"]
    files = ["--plot", str(tmp_path / "p.png"), "--json", str(tmp_path / "r.json")]
    assert main([*sizes, *files]) == 0
    printed = capsys.readouterr().out
    report = json.loads(printed.splitlines()[-1])
    assert report == json.loads((tmp_path / "r.json").read_text())
    assert "PROJECTION" in printed
    assert all(value > 1e8 for value in report["ceilings"].values())
    assert [s["name"] for s in report["stages"]] == ["encode", "verify", "step"]
    for stage in report["stages"]:
        assert stage["seconds"] > 0
        assert stage["share"] > 0
        assert stage["bound_s"] > 0
    assert all(line["projection"] for line in report["projections"])
    assert {line["gpu"] for line in report["projections"]} == report["sources"].keys()
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_no_such_bundle(tmp_path: Path) -> None:
    assert main(["--bundle", str(tmp_path / "none")]) == 2
