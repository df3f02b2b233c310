"""Source -> checked ONNX files with the contract's names and dynamic batch and T."""

from __future__ import annotations

import ast
import warnings
from collections import Counter
from pathlib import Path
from typing import Final

import onnx
import torch
from torch.export import Dim

from .graphs import DecoderGraph, EncoderGraph
from .sources.base import Source

OPSET: Final = 24
INSIDE_LIMIT: Final = 1_000_000_000
"""Weights of more bytes lie beside the graph: one protobuf file ends at 2 GB."""


def export_encoder(source: Source, path: Path) -> None:
    """Write the encoder graph; batch is dynamic."""
    image, layers = source.facts.image, source.facts.decoder.layers
    pixels = torch.zeros(2, len(image.windows), image.size, image.size)
    write_graph(
        EncoderGraph(source),
        (pixels,),
        path,
        inputs=["pixels"],
        outputs=names("cross", layers) + (["draft_levels"] if source.guess is not None else []),
        shapes=({0: Dim("batch")},),
    )


def export_decoder(source: Source, path: Path) -> None:
    """Write the decoder graph; batch and T are dynamic."""
    d = source.facts.decoder
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    start = torch.zeros(2, dtype=torch.int64)
    cross = [torch.zeros(2, d.heads, d.source_length, d.head_dim) for _ in range(2 * d.layers)]
    past = [torch.zeros(2, d.heads, d.max_length, d.head_dim) for _ in range(2 * d.layers)]
    batch, length = Dim("batch"), Dim("length")
    write_graph(
        DecoderGraph(source),
        (tokens, start, cross, past),
        path,
        inputs=["tokens", "start", *names("cross", d.layers), *names("past", d.layers)],
        outputs=["next_tokens", "level_logprobs", *names("present", d.layers)],
        shapes=(
            {0: batch, 1: length},
            {0: batch},
            [{0: batch} for _ in cross],
            [{0: batch} for _ in past],
        ),
    )


def names(role: str, layers: int) -> list[str]:
    """Names of a role's keys and values: cross_key_0, cross_value_0, …"""
    return [f"{role}_{kind}_{i}" for i in range(layers) for kind in ("key", "value")]


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph and check it; large weights go to `<name>.data` beside it.

    Raises:
        RuntimeError: see `check`.
    """
    data_file(path).unlink(missing_ok=True)  # a new one would be added to the old one's end
    large = model.ByteSize() > INSIDE_LIMIT
    onnx.save_model(model, path, save_as_external_data=large, location=data_file(path).name)
    check(path)


def data_file(path: Path) -> Path:
    """Where the weights of a large graph lie."""
    return path.with_name(f"{path.name}.data")


def check(path: Path) -> None:
    """Valid ONNX of standard operators only, its weights within the folder.

    Raises:
        RuntimeError: an operator is not a standard one, or weights lie elsewhere.
    """
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path, load_external_data=False)
    foreign = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise RuntimeError(f"{path.name} holds custom operators of {', '.join(sorted(foreign))}")
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and Path(entry.value).name != entry.value:
                raise RuntimeError(
                    f"{path.name} keeps weights at {entry.value}, outside its folder"
                )


def write_graph(
    module: torch.nn.Module,
    example: tuple[object, ...],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    shapes: tuple[object, ...],
    opset: int = OPSET,
) -> None:
    """Export, name the nodes by their modules, and check.

    Args:
        module: what becomes the graph.
        example: its arguments.
        path: the file.
        inputs, outputs: names.
        shapes: dynamic axes of each argument, as `torch.export` takes them.
        opset: of ONNX.

    Raises:
        RuntimeError: see `check`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=opset,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    model: onnx.ModelProto = program.model_proto
    _name_nodes(model)
    save(model, path)


def _name_nodes(model: onnx.ModelProto) -> None:
    """`vision.statistics/conv2d` instead of `node_Conv_296`, for profilers and for `precision`.

    The exporter's own notes, which hold the source's file paths, go.
    """
    taken: Counter[str] = Counter()
    for node in model.graph.node:
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))[1:]
        name = "/".join(scopes[-2:]) or node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}.{taken[name]}"
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
