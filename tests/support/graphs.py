"""Tiny ONNX graphs that keep the graph contract, with random weights: a real encoder and decoder.

One layer, real attention over the cache and over the encoder's keys and values, a few hundred
weights: their captions are arbitrary but depend on the pixels and on every token before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.backends.base import GraphShapes
from engine.decoding.caption import Rules
from engine.template import ATTRIBUTES

HEADS, HEAD_DIM, SOURCE, VOCABULARY = 2, 4, 3, 24
WIDTH = HEADS * HEAD_DIM
LEVELS = (3, 4, 5, 6, 7)
RULES = Rules(prompt=(1,), end=2, levels=LEVELS, max_length=20)
SHAPES = GraphShapes(
    channels=2,
    size=4,
    layers=1,
    heads=HEADS,
    head_dim=HEAD_DIM,
    max_length=RULES.max_length,
    source_length=SOURCE,
)


class _Graph:
    """Collects nodes and weights."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """A node with one output, which is returned."""
        out = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [out], **attributes))
        return out

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """An initializer."""
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def matrix(self, *shape: int) -> str:
        """Random weights."""
        return self.constant(self.random.standard_normal(shape), np.float32)

    def save(self, path: Path, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Check and write the graph."""
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)])
        model.ir_version = 11
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def _value(name: str, shape: Sequence[int | str], half: bool = False) -> Any:
    return helper.make_tensor_value_info(
        name, TensorProto.FLOAT16 if half else TensorProto.FLOAT, shape
    )


def _ids(name: str, shape: Sequence[int | str]) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


@dataclass(frozen=True, kw_only=True)
class TinyGraphs:
    """Where the two files of `write` lie."""

    encoder: Path
    decoder: Path
    shapes: GraphShapes


def write(
    folder: Path, *, seed: int = 0, half: bool = False, guessing: bool = True, nan: bool = False
) -> TinyGraphs:
    """Write an encoder and a decoder.

    Args:
        folder: where to.
        seed: of the weights.
        half: keys, values and cache in FP16.
        guessing: the encoder has `draft_levels`.
        nan: the decoder's log-probabilities are NaN.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cache = "float16" if half else "float32"
    shapes = GraphShapes(**{**{f: getattr(SHAPES, f) for f in SHAPES.__slots__}, "cache": cache})
    graphs = TinyGraphs(
        encoder=folder / "encoder.onnx", decoder=folder / "decoder.onnx", shapes=shapes
    )
    _write_encoder(graphs.encoder, seed, half=half, guessing=guessing)
    _write_decoder(graphs.decoder, seed, half=half, nan=nan)
    return graphs


def _write_encoder(path: Path, seed: int, *, half: bool, guessing: bool) -> None:
    g, pixels = _Graph(seed), SHAPES.channels * SHAPES.size**2
    flat = g.add("Reshape", "pixels", g.constant([-1, pixels]))
    outputs = []
    for name in ("cross_key_0", "cross_value_0"):
        wide = g.add("MatMul", flat, g.matrix(pixels, HEADS * SOURCE * HEAD_DIM))
        shaped = g.add("Reshape", wide, g.constant([-1, HEADS, SOURCE, HEAD_DIM]))
        g.add(*_as(half), shaped, out=name, **_to(half))
        outputs.append(_value(name, ["B", HEADS, SOURCE, HEAD_DIM], half))
    if guessing:
        votes = g.add("MatMul", flat, g.matrix(pixels, len(ATTRIBUTES) * len(LEVELS)))
        votes = g.add("Reshape", votes, g.constant([-1, len(ATTRIBUTES), len(LEVELS)]))
        g.add("ArgMax", votes, out="draft_levels", axis=-1, keepdims=0)
        outputs.append(_ids("draft_levels", ["B", len(ATTRIBUTES)]))
    inputs = [_value("pixels", ["B", SHAPES.channels, SHAPES.size, SHAPES.size])]
    g.save(path, inputs, outputs)


def _write_decoder(path: Path, seed: int, *, half: bool, nan: bool) -> None:
    g, longest = _Graph(seed + 1), SHAPES.max_length
    count = g.add("Gather", g.add("Shape", "tokens"), g.constant(1))
    steps = g.add("Range", g.constant(0), count, g.constant(1))
    positions = g.add("Add", g.add("Unsqueeze", "start", g.constant([1])), steps)
    words = g.add("Gather", g.matrix(VOCABULARY, WIDTH), "tokens")
    x = g.add("Add", words, g.add("Gather", g.matrix(longest, WIDTH), positions))
    query, key, value = (_heads(g, x, half) for _ in range(3))
    scatter = {"axis": 2, "mode": "linear"}
    g.add("TensorScatter", "past_key_0", key, "start", out="present_key_0", **scatter)
    g.add("TensorScatter", "past_value_0", value, "start", out="present_value_0", **scatter)
    slots = g.constant(np.arange(longest)[None, None, None])
    seen = g.add("LessOrEqual", slots, g.add("Unsqueeze", positions, g.constant([1, 3])))
    own = g.add("Attention", query, "present_key_0", "present_value_0", seen)
    cross = g.add("Attention", query, "cross_key_0", "cross_value_0")
    mixed = g.add("Cast", g.add("Add", own, cross), to=TensorProto.FLOAT)
    flat = g.add("Transpose", mixed, perm=[0, 2, 1, 3])
    flat = g.add("Reshape", flat, g.constant([0, 0, WIDTH]))
    logits = g.add("MatMul", g.add("Add", flat, x), g.matrix(WIDTH, VOCABULARY))
    g.add("ArgMax", logits, out="next_tokens", axis=-1, keepdims=0)
    logprobs = g.add("LogSoftmax", logits, axis=-1)
    if nan:
        logprobs = g.add("Log", g.add("Neg", g.add("Exp", logprobs)))
    g.add("Gather", logprobs, g.constant(LEVELS), out="level_logprobs", axis=-1)
    source, cached = ["B", HEADS, SOURCE, HEAD_DIM], ["B", HEADS, longest, HEAD_DIM]
    kinds = ("key", "value")
    inputs = [_ids("tokens", ["B", "T"]), _ids("start", ["B"])]
    inputs += [_value(f"cross_{kind}_0", source, half) for kind in kinds]
    inputs += [_value(f"past_{kind}_0", cached, half) for kind in kinds]
    outputs = [_ids("next_tokens", ["B", "T"]), _value("level_logprobs", ["B", "T", len(LEVELS)])]
    outputs += [_value(f"present_{kind}_0", cached, half) for kind in kinds]
    g.save(path, inputs, outputs)


def _heads(g: _Graph, x: str, half: bool) -> str:
    """(B, T, width) -> (B, heads, T, head_dim)."""
    wide = g.add("MatMul", x, g.matrix(WIDTH, WIDTH))
    split = g.add("Reshape", wide, g.constant([0, 0, HEADS, HEAD_DIM]))
    return g.add(*_as(half), g.add("Transpose", split, perm=[0, 2, 1, 3]), **_to(half))


def _as(half: bool) -> tuple[str]:
    return ("Cast" if half else "Identity",)


def _to(half: bool) -> dict[str, Any]:
    return {"to": TensorProto.FLOAT16} if half else {}


def pixels(rows: int, seed: int = 0) -> NDArray[np.float32]:
    """Random pixels for the tiny encoder."""
    size = (rows, SHAPES.channels, SHAPES.size, SHAPES.size)
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)
