"""Checkpoint folder -> the adapter that reads it, or an error that says what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from .base import Options, Source

_CONVERT = """\
import torch, safetensors.torch
weights = torch.load({name!r}, map_location="cpu", weights_only=True)
weights = {{k: v.contiguous().clone() for k, v in weights.items()}}
safetensors.torch.save_file(weights, "model.safetensors", metadata={{"format": "pt"}})"""


def open_source(folder: Path, options: Options | None = None) -> Source:
    """Read a checkpoint.

    Args:
        folder: config.json, safetensors and tokenizer.
        options: what the checkpoint leaves open.

    Raises:
        CheckpointError: a file is missing, the weights are a pickle, the architecture is unknown,
            config and weights disagree, or the tokenizer does not fit.
    """
    chosen = options or Options()
    config = _config(folder)
    _check_weights(folder)
    if "level_ids" in config:
        if not (folder / "tokenizer.json").is_file():
            raise CheckpointError(
                f"{folder} lacks tokenizer.json; python -m training.finetune writes it"
            )
        from .small import SmallSource

        return SmallSource(folder, chosen)
    stated = config.get("architectures") or [config.get("model_type")]
    architectures = [str(name) for name in (stated if isinstance(stated, list) else [stated])]
    if "BlipForConditionalGeneration" in architectures:
        from .blip import BlipSource

        return BlipSource(folder, chosen)
    if "VisionEncoderDecoderModel" in architectures:
        from .vision_encoder_decoder import VisionEncoderDecoderSource

        return VisionEncoderDecoderSource(folder, chosen)
    raise CheckpointError(
        f"{folder}: unknown architecture {', '.join(architectures)}; "
        "known are BlipForConditionalGeneration, VisionEncoderDecoderModel and the project's own "
        "(python -m training.finetune). export/README.md says how to write an adapter"
    )


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(
            f"{folder} lacks config.json: give the folder that model.save_pretrained or "
            "python -m training.finetune wrote"
        )
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file} is not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{file} holds no JSON object")
    return raw


def _check_weights(folder: Path) -> None:
    """Weights are safetensors; a pickle can run code when loaded, so nothing here opens one."""
    if any(folder.glob("*.safetensors")):
        return
    for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt"):
        for pickle in sorted(folder.glob(pattern)):
            raise CheckpointError(
                f"{pickle.name} is a pickle, which can run code when loaded, and is not opened. "
                f"Where you trust it, convert it in {folder}:\n{_CONVERT.format(name=pickle.name)}"
            )
    raise CheckpointError(f"{folder} has no weights: model.safetensors is missing")
