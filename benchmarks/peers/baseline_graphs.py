"""The same weights once more as ONNX graphs of the usual shapes, by the export's own parts.

| file | inputs | outputs |
|---|---|---|
| `features.onnx` | pixels | features (B, S, width) |
| `whole.onnx` | tokens (B, T), features | next_token (B): everything is computed again |
| `growing.onnx` | tokens (B, T), past_* (B, heads, P, head_dim), cross_* | next_token, present_* |

`growing.onnx` follows the bundle's own encoder, which gives the cross-attention's keys and
values. The arg-max is in the graphs, so no peer pays for moving a vocabulary of logits.

`python -m benchmarks.peers.baseline_graphs CHECKPOINT FOLDER NAME` writes one of them.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final, cast

import torch
from torch import Tensor, nn
from torch.export import Dim

from engine.whole_file import written_whole
from export import to_onnx
from export.sources.base import Source, TextLayer
from export.sources.detect import open_source

from .contestants import FEATURES, GROWING, WHOLE

_OPSET: Final = 23
"""Attention is one operator, and more runtimes read it than 24."""


class WholeGraph(nn.Module):
    """The decoder without any cache: all tokens so far, and the picture's features, every time."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.text = source.text

    def forward(self, tokens: Tensor, features: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1])
        mask = (positions[None, :] <= positions[:, None])[None, None]
        x = self.text.embed(tokens, positions[None, :])
        for module in self.text.layers:
            layer = cast(TextLayer, module)
            query, key, value = layer.own(x)
            x = layer(x, query, (key, value), mask, layer.cross(features))
        return self.text.head(x[:, -1:]).argmax(-1)[:, 0]


class GrowingGraph(nn.Module):
    """The decoder with a cache that grows by concatenation, cross-attention's given once."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.text = source.text

    def forward(
        self, tokens: Tensor, past: list[Tensor], cross: list[Tensor]
    ) -> tuple[Tensor, ...]:
        before = past[0].shape[2]
        positions = before + torch.arange(tokens.shape[1])
        slots = torch.arange(before + tokens.shape[1])
        mask = (slots[None, :] <= positions[:, None])[None, None]
        x = self.text.embed(tokens, positions[None, :])
        present: list[Tensor] = []
        for i, module in enumerate(self.text.layers):
            layer = cast(TextLayer, module)
            query, new_key, new_value = layer.own(x)
            key = torch.cat([past[2 * i], new_key], 2)
            value = torch.cat([past[2 * i + 1], new_value], 2)
            present += [key, value]
            x = layer(x, query, (key, value), mask, (cross[2 * i], cross[2 * i + 1]))
        return (self.text.head(x[:, -1:]).argmax(-1)[:, 0], *present)


def write(checkpoint: Path, folder: Path, name: str) -> None:
    """Export one of the graphs of a checkpoint.

    Raises:
        CheckpointError: the checkpoint cannot be exported.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    source = open_source(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / name) as part:
        {FEATURES: _features, WHOLE: _whole, GROWING: _growing}[name](source, part)


def _features(source: Source, path: Path) -> None:
    pixels = _pixels(source)
    _export(source.vision, (pixels,), path, ["pixels"], ["features"], ({0: Dim("batch")},))


def _whole(source: Source, path: Path) -> None:
    with torch.no_grad():
        features = source.vision(_pixels(source))
    batch = Dim("batch")
    shapes = ({0: batch, 1: Dim("length")}, {0: batch})
    names = ["tokens", "features"]
    _export(WholeGraph(source), (_tokens(), features), path, names, ["next_token"], shapes)


def _growing(source: Source, path: Path) -> None:
    d = source.facts.decoder
    past = [torch.zeros(2, d.heads, 4, d.head_dim) for _ in range(2 * d.layers)]
    cross = [torch.zeros(2, d.heads, d.source_length, d.head_dim) for _ in past]
    batch, before = Dim("batch"), Dim("before")
    _export(
        GrowingGraph(source),
        (_tokens(), past, cross),
        path,
        ["tokens", *to_onnx.names("past", d.layers), *to_onnx.names("cross", d.layers)],
        ["next_token", *to_onnx.names("present", d.layers)],
        (
            {0: batch, 1: Dim("length")},
            [{0: batch, 2: before} for _ in past],
            [{0: batch} for _ in cross],
        ),
    )


def _pixels(source: Source) -> Tensor:
    image = source.facts.image
    return torch.zeros(2, len(image.windows), image.size, image.size)


def _tokens() -> Tensor:
    return torch.zeros(2, 3, dtype=torch.int64)


def _export(
    module: nn.Module,
    example: tuple[object, ...],
    path: Path,
    inputs: list[str],
    outputs: list[str],
    shapes: tuple[object, ...],
) -> None:
    to_onnx.write_graph(
        module, example, path, inputs=inputs, outputs=outputs, shapes=shapes, opset=_OPSET
    )


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
