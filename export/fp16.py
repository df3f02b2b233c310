"""FP32 graphs -> FP16, by ONNX Runtime's own converter, with what must not overflow kept in FP32.

Kept: the modules that an adapter names (the small captioner's amplitudes), layer norm (its mean
and variance), soft-max within attention (`softmax_precision`), the vocabulary's log-soft-max and
arg-max, and powers and logarithms. Pixels and log-probabilities stay FP32 at the graphs' borders,
so that a caller sees no difference; keys and values are FP16 on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import onnx
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from . import to_onnx

KEPT_OPERATORS: Final = {
    "LayerNormalization": "mean and variance of the residual stream",
    "LogSoftmax": "sums over the vocabulary",
    "ArgMax": "reads the same logits as the log-soft-max",
    "Pow": "cubes overflow from 40 on",
    "Log": "small amplitudes fall below FP16's range",
}
_ATTENTION: Final = "softmax of every Attention: sums over positions"
_BORDERS: Final = ["pixels", "level_logprobs"]


def to_fp16(path: Path, kept: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Convert an FP32 graph of `to_onnx` in place.

    Args:
        path: the graph; its nodes are named by their modules.
        kept: module paths that stay FP32, each with the reason.

    Returns:
        What stayed FP32, a line each with the reason.
    """
    model = onnx.load(path)
    nodes = {
        node.name: (path, why)
        for path, why in kept
        for node in model.graph.node
        if node.name.startswith(path)
    }
    found = Counter(n.op_type for n in model.graph.node if n.name not in nodes)
    lines = [f"{path}: {why}" for path, why in dict.fromkeys(nodes.values())]
    lines += [f"{op} ({found[op]}): {why}" for op, why in KEPT_OPERATORS.items() if found[op]]
    for node in model.graph.node:
        if node.op_type == "Attention" and node.name not in nodes:
            node.attribute.append(onnx.helper.make_attribute("softmax_precision", 1))  # FLOAT
    if found["Attention"]:
        lines.append(f"{_ATTENTION} ({found['Attention']})")
    borders = {value.name for value in (*model.graph.input, *model.graph.output)}
    half = convert_float_to_float16(
        model,
        keep_io_types=[name for name in _BORDERS if name in borders],
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_OPERATORS],
        node_block_list=list(nodes),
    )
    del half.graph.value_info[:]  # types from before the conversion
    tidy = OnnxModel(half)
    tidy.remove_cascaded_cast_nodes()  # pixels would go through FP16 on their way to FP32 nodes
    tidy.topological_sort()
    to_onnx.save(tidy.model, path)
    return lines
