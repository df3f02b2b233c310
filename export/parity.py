"""Proof that a bundle says what its source says: same slices through torch and the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engine.backends.base import GraphShapes
from engine.backends.select import open_graphs
from engine.bundle.manifest import Manifest
from engine.decoding.caption import Rules
from engine.decoding.greedy import greedy
from training.model import Captioner

MAX_PROBABILITY_DIFFERENCE = 1e-4
BATCH = 8


class ParityError(RuntimeError):
    """The graphs do not say what the source says; the message holds the figures."""


def measure(
    model: Captioner, folder: Path, manifest: Manifest, slices: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Compare torch with the graphs of a bundle folder on prepared slices.

    Args:
        model: the source.
        folder: holds the graphs.
        manifest: shapes and token ids.
        slices: (C, size, size) float32 each.

    Returns:
        `slices`, `captions_identical` (0…1), `probability_max`, `probability_mean` (absolute
        differences of level probabilities along the caption), `batch_identical` (0…1: the
        caption alone equals the caption in a batch).
    """
    rules = Rules(
        prompt=tuple(manifest.tokens.prompt),
        end=manifest.tokens.end,
        levels=tuple(manifest.tokens.levels),
        max_length=manifest.decoder.max_length,
    )
    d = manifest.decoder
    shapes = GraphShapes(
        channels=len(manifest.image.windows),
        size=manifest.image.size,
        layers=d.layers,
        heads=d.heads,
        head_dim=d.head_dim,
        max_length=d.max_length,
        source_length=d.source_length,
    )
    graphs = open_graphs(
        folder / "encoder.onnx",
        folder / "decoder.onnx",
        shapes,
        device="cpu",
        threads=None,
        max_batch=BATCH,
    )
    same, alone, differences = 0, 0, []
    for first in tqdm(range(0, len(slices), BATCH), desc="parity", unit="batch"):
        pixels = np.stack(slices[first : first + BATCH])
        rows = greedy(graphs.encode(pixels), rules)
        oracle = model.generate(torch.from_numpy(pixels), list(rules.prompt), rules.end)
        expected = _level_probabilities(model, pixels, oracle, rules)
        single = greedy(graphs.encode(pixels[:1]), rules)[0]
        alone += tuple(single.tokens) == tuple(rows[0].tokens)
        for row, tokens, probabilities in zip(rows, oracle, expected, strict=True):
            identical = list(row.tokens) == tokens
            same += identical
            if identical:
                differences.append(np.abs(np.exp(row.level_logprobs) - probabilities))
    graphs.close()
    gaps = np.concatenate(differences) if differences else np.full((1, 1), np.nan)
    return {
        "slices": float(len(slices)),
        "captions_identical": same / len(slices),
        "probability_max": float(gaps.max()),
        "probability_mean": float(gaps.mean()),
        "batch_identical": alone / len(range(0, len(slices), BATCH)),
    }


@torch.no_grad()
def _level_probabilities(
    model: Captioner, pixels: NDArray[np.float32], captions: list[list[int]], rules: Rules
) -> list[NDArray[np.float32]]:
    """Torch's probabilities of the level words at each generated token, (length, K) a row."""
    cross = model.encode(torch.from_numpy(pixels))
    longest = max(map(len, captions))
    lines = [[*rules.prompt, *row[:-1]] + [0] * (longest - len(row)) for row in captions]
    probabilities = model.decode(torch.tensor(lines), cross).softmax(-1)[..., list(rules.levels)]
    skip = len(rules.prompt) - 1
    return [
        p[skip : skip + len(row)].numpy() for p, row in zip(probabilities, captions, strict=True)
    ]


def check(figures: dict[str, float]) -> None:
    """Refuse a bundle that is not the same as its source.

    Raises:
        ParityError: a caption differs, probabilities are off, or anything is NaN.
    """
    good = (
        figures["captions_identical"] == 1.0
        and figures["batch_identical"] == 1.0
        and figures["probability_max"] <= MAX_PROBABILITY_DIFFERENCE
    )
    if not good:
        listed = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
        raise ParityError(f"the exported graphs differ from the source: {listed}")
