"""FP32 graphs -> INT8 for CPUs, by ONNX Runtime's static quantizer, calibrated on real slices.

MatMuls with weights get 8-bit unsigned activations, one scale each, and 7-bit signed weights, one
scale a column: standard QuantizeLinear and DequantizeLinear before the MatMul, which a runtime
fuses; its sums leave as FP32. Scales are fixed beforehand, so a row's numbers depend neither on the
other rows of a batch nor on how many tokens a pass has: drafted decoding stays equal to greedy
decoding. (Dynamic quantization takes its scale from the whole tensor; both equalities break.
export/README.md has the figures, and those of weight-only quantization.) The eighth bit of the
weights is left out because CPUs without VNNI add pairs of products in 16 bits and would saturate;
so all CPUs agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from tqdm import tqdm

from engine.bundle.manifest import DECODER, ENCODER

from . import to_onnx
from .graphs import EncoderGraph
from .sources.base import Source

CALIBRATION: Final = 32
"""Most slices that calibration looks at."""
KEPT: Final = (
    "everything but MatMul with weights: little of the time",
    "the vocabulary's MatMul: the level words' probabilities come straight from it",
)
_ERRORS_ONLY: Final = 3

Feed = dict[str, NDArray[np.generic]]


def to_int8(
    source: Source, folder: Path, slices: Sequence[NDArray[np.float32]]
) -> tuple[str, list[str]]:
    """Quantize a folder's FP32 graphs in place.

    Args:
        source: where the graphs come from; it writes the captions that the decoder is calibrated
            along.
        folder: holds the graphs of `to_onnx`.
        slices: (C, size, size) float32 each; at least one.

    Returns:
        How it was done, and what stayed FP32, for the manifest.
    """
    ort.set_default_logger_severity(_ERRORS_ONLY)  # calibration copies caches, and says so
    encoder, decoder = folder / ENCODER, folder / DECODER
    kept = tuple(path for path, _ in source.facts.fp32)
    sensitive = [name for name in _matmuls(encoder) if name.startswith(kept)]
    with tqdm(total=2 * len(slices), desc="calibrate", unit="slice") as bar:
        pixels: Iterator[Feed] = ({"pixels": array[None]} for array in slices)
        _quantize(encoder, _Feeds(pixels, bar), sensitive)
        _quantize(decoder, _Feeds(_decoder_feeds(source, slices), bar), _matmuls(decoder)[-1:])
    how = (
        "static: MatMul activations UINT8 per tensor, weights INT8 (7 bits) per channel, minimum "
        f"and maximum over {len(slices)} slices"
    )
    return how, [*(f"{path}: {why}" for path, why in source.facts.fp32), *KEPT]


class _Feeds(CalibrationDataReader):
    """Hands the quantizer one feed after the other."""

    def __init__(self, feeds: Iterator[Feed], bar: tqdm) -> None:
        self.feeds, self.bar = feeds, bar

    def get_next(self) -> Feed | None:
        feed = next(self.feeds, None)
        self.bar.update(feed is not None)
        return feed


@torch.no_grad()
def _decoder_feeds(source: Source, slices: Sequence[NDArray[np.float32]]) -> Iterator[Feed]:
    """The source's own captions, each in one pass over an empty cache."""
    d, prompt = source.facts.decoder, source.facts.tokens.prompt
    encoder, names = EncoderGraph(source), to_onnx.names("cross", d.layers)
    past: Feed = {
        name: np.zeros((1, d.heads, d.max_length, d.head_dim), np.float32)
        for name in to_onnx.names("past", d.layers)
    }
    for array in slices:
        pixels = torch.from_numpy(array[None])
        (words,) = source.generate(pixels)
        cross = dict(zip(names, (t.numpy() for t in encoder(pixels)), strict=False))
        tokens = np.array([[*prompt, *words[:-1]]], np.int64)
        yield {"tokens": tokens, "start": np.zeros(1, np.int64), **cross, **past}


def _quantize(path: Path, feeds: _Feeds, kept: list[str]) -> None:
    """Quantize one graph in place, all its MatMuls but the `kept` ones."""
    quantized = path.with_name(f"int8-{path.name}")
    quantize_static(
        path,
        quantized,
        feeds,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        nodes_to_exclude=kept,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        # Sums leave as FP32: rounding them to 8 bits, too, costs a pass and a seventh more error.
        extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        use_external_data_format=to_onnx.data_file(path).is_file(),
    )
    model = onnx.load(quantized)
    quantized.unlink()
    to_onnx.data_file(quantized).unlink(missing_ok=True)
    to_onnx.save(model, path)


def _matmuls(path: Path) -> list[str]:
    """Names of the MatMuls of a graph, in order; the vocabulary's is the decoder's last."""
    graph = onnx.load(path, load_external_data=False).graph
    return [str(node.name) for node in graph.node if node.op_type == "MatMul"]
