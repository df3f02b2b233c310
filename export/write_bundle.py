"""Checkpoint -> bundle folder: graphs, tokenizer, manifest, written aside and moved in at once."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.bundle.manifest import (
    DECODER,
    ENCODER,
    MANIFEST_NAME,
    TOKENIZER,
    CalibrationPart,
    FilePart,
    Manifest,
)
from engine.prepare import prepare
from engine.template import ATTRIBUTES

from . import parity, to_onnx
from .errors import CheckpointError, ExportError
from .sources.base import Options, Source
from .sources.detect import open_source

__all__ = ["CheckpointError", "export"]


def export(
    checkpoint: str | Path,
    out: str | Path,
    slices: Sequence[NDArray[np.generic]],
    *,
    options: Options | None = None,
    allow_drift: bool = False,
) -> Manifest:
    """Export a checkpoint and prove parity on real slices.

    Args:
        checkpoint: folder with config.json, safetensors and tokenizer; `training.json`, if there,
            names calibration, licence and data.
        out: the bundle folder; replaced as a whole once everything has been checked.
        slices: (H, W) HU each, for the parity check; at least one.
        options: what the checkpoint leaves open.
        allow_drift: write the bundle even if it does not pass the parity gates.

    Returns:
        The manifest that was written.

    Raises:
        CheckpointError: the checkpoint cannot be exported as it is.
        ParityError: the graphs differ from the source.
        ExportError: no slices, or no space on the disk.
        InputError: a slice is no CT slice.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if not slices:
        raise ExportError("no slices: parity is measured on real slices, so give at least one")
    source = open_source(checkpoint, options)
    spec = source.facts.image.spec()
    prepared = [prepare(hu, spec) for hu in slices]
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_space(source, out.parent)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        try:
            manifest = _write(source, checkpoint, folder, prepared, allow_drift)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ExportError(f"the disk of {out.parent} is full; nothing was written") from error
        _replace(folder, out)
    return manifest


def _write(
    source: Source,
    checkpoint: Path,
    folder: Path,
    prepared: Sequence[NDArray[np.float32]],
    allow_drift: bool,
) -> Manifest:
    """Fill the scratch folder; the manifest, without which nothing loads, comes last."""
    to_onnx.export_encoder(source, folder / ENCODER)
    to_onnx.export_decoder(source, folder / DECODER)
    source.tokenizer.save(str(folder / TOKENIZER))
    manifest = _manifest(source, checkpoint, folder)
    figures = parity.measure(source, folder, manifest, prepared)
    if not allow_drift:
        parity.check(figures, manifest.precision)
    manifest = manifest.model_copy(update={"parity": figures})
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1))
    return manifest


def _manifest(source: Source, checkpoint: Path, folder: Path) -> Manifest:
    facts, about = source.facts, _about(checkpoint)
    neutral = {name: {"slope": 1.0, "intercept": 0.0} for name in ATTRIBUTES}
    calibration = about.get("calibration", neutral)
    return Manifest(
        name=about.get("name", checkpoint.resolve().name),
        version=about.get("version", "1"),
        family=facts.family,
        precision="fp32",
        opset=to_onnx.OPSET,
        image=facts.image,
        decoder=facts.decoder,
        tokens=facts.tokens,
        calibration={name: CalibrationPart(**line) for name, line in calibration.items()},
        files={
            path.relative_to(folder).as_posix(): _facts_of(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        },
        source_sha256=_source_hash(facts.weights),
        licence=about.get("licence", "not stated"),
        data=about.get("data", "not stated"),
        provenance={
            package: version(package) for package in ("torch", "onnx", "onnxruntime", "tokenizers")
        },
        score_origin=about.get("score_origin", "unknown readers"),
        parity={},
        metrics=about.get("metrics", {}),
    )


def _about(checkpoint: Path) -> dict[str, Any]:
    """What `training.json` says about the checkpoint; empty if it is not there.

    Raises:
        CheckpointError: it is not JSON.
    """
    file = checkpoint / "training.json"
    try:
        return dict(json.loads(file.read_text())) if file.is_file() else {}
    except ValueError as error:
        raise CheckpointError(f"{file} is not a JSON object: {error}") from error


def _facts_of(path: Path) -> FilePart:
    return FilePart(sha256=_sha256(path), bytes=path.stat().st_size)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _source_hash(weights: Iterable[Path]) -> str:
    """The hash of the weights' file; of several shards, the hash of their hashes in order."""
    hashes = [_sha256(path) for path in weights]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _check_space(source: Source, parent: Path) -> None:
    """Graphs take about what the weights take; the old bundle stays until the end.

    Raises:
        ExportError: the disk has too little space for that.
    """
    weights = sum(path.stat().st_size for path in source.facts.weights)
    needed, free = int(2.5 * weights), shutil.disk_usage(parent).free
    if free < needed:
        raise ExportError(
            f"{parent} has {free / 1e9:.1f} GB free, the export needs about {needed / 1e9:.1f} GB; "
            "make room, or choose another --out"
        )


def _replace(folder: Path, out: Path) -> None:
    """Put `folder` at `out`; an old bundle steps aside first and is deleted last."""
    old = folder.with_name("old")
    if out.exists():
        out.rename(old)
    folder.rename(out)
