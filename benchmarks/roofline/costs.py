"""ONNX graph -> arithmetic and memory traffic of one run at given batch and length.

Arithmetic: multiply-adds of MatMul, Gemm, Conv and Attention count two operations; the rest is
small. Traffic, two ways: `least_bytes`, which no implementation can avoid (each weight, input and
output moves once; a table that is looked up moves the rows that were looked up; the cache, which
is updated in place, is read once), and `unfused_bytes`, if every operator reads its inputs from
memory and writes its outputs there. Shapes come from ONNX's own shape inference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from engine.errors import IqaError

_VIEWS: Final = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Constant"}
_FREE: Final = {*_VIEWS, "DequantizeLinear", "QuantizeLinear"}
"""Views move nothing; the quantizer's pairs are fused into the products they stand around."""

_BOOKKEEPING: Final = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
_SMALL: Final = 256
"""Most elements of a number that is folded."""


class CostError(IqaError):
    """A graph's cost cannot be told; the message says which value has no shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One run of a graph: operations by type of arithmetic, and bytes (see the module)."""

    float_ops: float
    int8_ops: float
    least_bytes: float
    unfused_bytes: float

    @property
    def ops(self) -> float:
        """All operations."""
        return self.float_ops + self.int8_ops

    @property
    def intensity(self) -> float:
        """Operations a byte, at the least traffic."""
        return self.ops / self.least_bytes


def cost(path: Path, *, batch: int, length: int = 1) -> Cost:
    """Count one run of an encoder or decoder graph of the contract.

    Args:
        path: the ONNX file.
        batch: B.
        length: T, tokens a row (decoder only).

    Raises:
        CostError: a shape is not known.
    """
    model = onnx.load(path, load_external_data=False)
    _fix(model.graph, batch, length)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    _fold(inferred.graph)  # inference knows no Range of a computed length
    return _Counter(onnx.shape_inference.infer_shapes(inferred, data_prop=True).graph).count()


def _fix(graph: onnx.GraphProto, batch: int, length: int) -> None:
    """Put numbers for the dynamic sizes; what was inferred for the symbols goes."""
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_value = batch
        if value.name == "tokens":
            dims[1].dim_value = length
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _fold(graph: onnx.GraphProto) -> None:
    """Replace bookkeeping (shapes, ranges, positions) that no longer depends on data by numbers."""
    known = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type in _BOOKKEEPING
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        and prod(tensor.dims) <= _SMALL
    }
    shapes = _shapes(graph)
    left: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes:
            inputs = [np.broadcast_to(np.float32(0), shapes[node.input[0]])]
        elif node.op_type != "Constant" and all(name in known for name in node.input):
            inputs = [known[name] for name in node.input]
        else:
            left.append(node)
            continue
        found = ReferenceEvaluator(node).run(None, dict(zip(node.input, inputs, strict=True)))
        for name, value in zip(node.output, found, strict=True):
            known[name] = np.asarray(value)
            graph.initializer.append(onnx.numpy_helper.from_array(known[name], name))
    del graph.node[:]
    graph.node.extend(left)
    del graph.value_info[:]


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """The shapes that are all numbers."""
    found = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
            found[value.name] = tuple(d.dim_value for d in tensor.shape.dim)
    return found


class _Counter:
    """Walks the nodes of a graph whose shapes are all numbers."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = {t.name: t for t in graph.initializer}
        self.shapes = _shapes(graph)
        self.widths = {t.name: _width(t.data_type) for t in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            self.widths[value.name] = _width(value.type.tensor_type.elem_type)
        self.maker = {name: node for node in graph.node for name in node.output}

    def count(self) -> Cost:
        """See `cost`."""
        by_type = {True: 0.0, False: 0.0}
        unfused = 0.0
        for node in self.graph.node:
            by_type[self._quantized(node)] += self._operations(node)
            unfused += self._traffic(node)
        return Cost(
            float_ops=by_type[False],
            int8_ops=by_type[True],
            least_bytes=self._least(),
            unfused_bytes=unfused,
        )

    def _operations(self, node: onnx.NodeProto) -> float:
        if node.op_type in ("MatMul", "MatMulInteger"):
            return 2.0 * prod(self._shape(node.output[0])) * self._shape(node.input[0])[-1]
        if node.op_type == "Gemm":
            a = self._shape(node.input[0])
            inner = a[0] if _attribute(node, "transA") else a[1]
            return 2.0 * prod(self._shape(node.output[0])) * inner
        if node.op_type == "Conv":
            return 2.0 * prod(self._shape(node.output[0])) * prod(self._shape(node.input[1])[1:])
        if node.op_type == "Attention":
            *rows, queries, width = self._shape(node.input[0])
            keys, values = self._shape(node.input[1])[-2], self._shape(node.input[2])[-1]
            return 2.0 * prod(rows) * queries * keys * (width + values)
        return 0.0

    def _quantized(self, node: onnx.NodeProto) -> bool:
        """Whether a product's factors are 8-bit numbers (QDQ form, or MatMulInteger)."""
        if node.op_type == "MatMulInteger":
            return True
        makers = [self.maker.get(name) for name in node.input[:2]]
        return node.op_type in ("MatMul", "Gemm") and all(
            maker is not None and maker.op_type == "DequantizeLinear" for maker in makers
        )

    def _traffic(self, node: onnx.NodeProto) -> float:
        """Bytes in and out of one operator."""
        if node.op_type in _FREE:
            return 0.0
        if node.op_type == "TensorScatter":  # in place: only the new rows move
            return 2.0 * self._bytes(node.input[1])
        if node.op_type == "Gather" and node.input[0] in self.weights:
            return 2.0 * self._bytes(node.output[0])
        names = [name for name in (*node.input, *node.output) if name]
        return float(sum(self._bytes(self._stored(name)) for name in names))

    def _stored(self, name: str) -> str:
        """A dequantised weight lies in memory as the 8-bit one."""
        maker = self.maker.get(name)
        quantized = maker is not None and maker.op_type == "DequantizeLinear"
        return maker.input[0] if maker is not None and quantized else name

    def _least(self) -> float:
        """Weights, inputs and outputs, each once."""
        looked_up = {
            node.input[0]: node.output[0] for node in self.graph.node if node.op_type == "Gather"
        }
        used = {name for node in self.graph.node for name in node.input}
        weights = sum(
            self._bytes(looked_up.get(name, name)) for name in self.weights if name in used
        )
        outputs = [v.name for v in self.graph.output if not v.name.startswith("present_")]
        return float(
            weights + sum(map(self._bytes, [*(v.name for v in self.graph.input), *outputs]))
        )

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self.shapes:
            raise CostError(f"shape inference gives no shape for {name}")
        return self.shapes[name]

    def _bytes(self, name: str) -> int:
        return prod(self._shape(name)) * self.widths[name]


def _width(kind: int) -> int:
    """Bytes of one element."""
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), 0)
