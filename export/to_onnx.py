"""Torch modules -> checked ONNX files with the contract's names and dynamic batch and T."""

from __future__ import annotations

import warnings
from pathlib import Path

import onnx
import torch
from torch.export import Dim

from training.model import Captioner

from .graphs import DecoderGraph, EncoderGraph

OPSET = 24


def export_encoder(model: Captioner, path: Path) -> None:
    """Write the encoder graph; batch is dynamic."""
    c = model.config
    pixels = torch.zeros(2, c.windows, c.size, c.size)
    _export(
        EncoderGraph(model),
        (pixels,),
        path,
        inputs=["pixels"],
        outputs=[*_names("cross", c.decoder_layers), "draft_levels"],
        shapes=({0: Dim("batch")},),
    )


def export_decoder(model: Captioner, path: Path) -> None:
    """Write the decoder graph; batch and T are dynamic."""
    c = model.config
    tokens = torch.zeros(2, 3, dtype=torch.int64)
    start = torch.zeros(2, dtype=torch.int64)
    cross = [torch.zeros(2, c.heads, c.grid**2, c.head_dim) for _ in range(2 * c.decoder_layers)]
    past = [torch.zeros(2, c.heads, c.max_length, c.head_dim) for _ in range(2 * c.decoder_layers)]
    batch, length = Dim("batch"), Dim("length")
    _export(
        DecoderGraph(model),
        (tokens, start, cross, past),
        path,
        inputs=[
            "tokens",
            "start",
            *_names("cross", c.decoder_layers),
            *_names("past", c.decoder_layers),
        ],
        outputs=["next_tokens", "level_logprobs", *_names("present", c.decoder_layers)],
        shapes=(
            {0: batch, 1: length},
            {0: batch},
            [{0: batch} for _ in cross],
            [{0: batch} for _ in past],
        ),
    )


def _names(role: str, layers: int) -> list[str]:
    return [f"{role}_{kind}_{i}" for i in range(layers) for kind in ("key", "value")]


def _export(
    module: torch.nn.Module,
    example: tuple[object, ...],
    path: Path,
    *,
    inputs: list[str],
    outputs: list[str],
    shapes: tuple[object, ...],
) -> None:
    """Export, then check: valid ONNX, standard operators only, weights inside the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        torch.onnx.export(
            module.eval(),
            example,
            path,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    foreign = {node.domain for node in graph.graph.node} - {"", "ai.onnx"}
    if foreign:
        raise RuntimeError(f"{path.name} holds custom operators of {', '.join(sorted(foreign))}")
