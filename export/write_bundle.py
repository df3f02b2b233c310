"""Checkpoint -> bundle folder: graphs, tokenizer, manifest, written aside and moved in at once."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from engine.bundle.manifest import (
    CalibrationPart,
    DecoderPart,
    FilePart,
    ImagePart,
    Manifest,
    TokensPart,
    WindowPart,
)
from engine.prepare import prepare
from engine.template import ATTRIBUTES
from training.model import Captioner, image_spec

from . import parity, to_onnx


class CheckpointError(ValueError):
    """The checkpoint folder cannot be exported; the message says why and what to do."""


def export(checkpoint: Path, out: Path, slices: Sequence[NDArray[np.generic]]) -> Manifest:
    """Export a checkpoint of `training.finetune` and prove parity on real slices.

    Args:
        checkpoint: `config.json`, `model.safetensors`, `tokenizer.json`, `training.json`.
        out: the bundle folder; replaced as a whole once everything has been checked.
        slices: (H, W) HU each, for the parity check.

    Raises:
        CheckpointError: a file is missing, or the checkpoint is a pickle.
        export.parity.ParityError: the graphs differ from the source.
    """
    _check_files(checkpoint)
    model = Captioner.load(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        to_onnx.export_encoder(model, folder / "encoder.onnx")
        to_onnx.export_decoder(model, folder / "decoder.onnx")
        shutil.copyfile(checkpoint / "tokenizer.json", folder / "tokenizer.json")
        manifest = _manifest(checkpoint, model, folder)
        prepared = [prepare(hu, image_spec(model.config.size)) for hu in slices]
        figures = parity.measure(model, folder, manifest, prepared)
        parity.check(figures)
        manifest = manifest.model_copy(update={"parity": figures})
        (folder / "manifest.json").write_text(manifest.model_dump_json(indent=1))
        _replace(folder, out)
    return manifest


def _check_files(checkpoint: Path) -> None:
    """Say what is missing before any long work."""
    pickles = [*checkpoint.glob("*.pt"), *checkpoint.glob("*.pth"), *checkpoint.glob("*.bin")]
    missing = [
        name
        for name in ("config.json", "model.safetensors", "tokenizer.json")
        if not (checkpoint / name).is_file()
    ]
    if "model.safetensors" in missing and pickles:
        raise CheckpointError(
            f"{pickles[0].name} is a pickle, which can run code when loaded; convert it where you "
            "trust it: safetensors.torch.save_file(torch.load(path, weights_only=True), "
            "'model.safetensors')"
        )
    if missing:
        raise CheckpointError(
            f"{checkpoint} lacks {', '.join(missing)}; python -m training.finetune writes them"
        )


def _manifest(checkpoint: Path, model: Captioner, folder: Path) -> Manifest:
    c = model.config
    about_file = checkpoint / "training.json"
    about = json.loads(about_file.read_text()) if about_file.is_file() else {}
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    neutral = {name: {"slope": 1.0, "intercept": 0.0} for name in ATTRIBUTES}
    calibration = about.get("calibration", neutral)
    return Manifest(
        name=about.get("name", checkpoint.name),
        version=about.get("version", "1"),
        family="iqagpt-small",
        precision="fp32",
        opset=to_onnx.OPSET,
        image=ImagePart(
            size=c.size,
            windows=[WindowPart(low=w.low, high=w.high) for w in image_spec(c.size).windows],
        ),
        decoder=DecoderPart(
            layers=c.decoder_layers,
            heads=c.heads,
            head_dim=c.head_dim,
            max_length=c.max_length,
            source_length=c.grid**2,
            vocab_size=c.vocab_size,
        ),
        tokens=TokensPart(
            prompt=[vocabulary["[BOS]"]],
            end=vocabulary["[EOS]"],
            levels=list(c.level_ids),
        ),
        calibration={name: CalibrationPart(**line) for name, line in calibration.items()},
        files={
            path.name: FilePart(sha256=_sha256(path), bytes=path.stat().st_size)
            for path in sorted(folder.iterdir())
        },
        source_sha256=_sha256(checkpoint / "model.safetensors"),
        licence=about.get("licence", "not stated"),
        data=about.get("data", "not stated"),
        score_origin=about.get("score_origin", "simulated readers"),
        parity={},
        metrics=about.get("metrics", {}),
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _replace(folder: Path, out: Path) -> None:
    """Put `folder` at `out`; an old bundle steps aside first and is deleted last."""
    old = folder.with_name("old")
    if out.exists():
        out.rename(old)
    folder.rename(out)
