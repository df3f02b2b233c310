"""Checkpoint folder -> bundle folder: graphs, engines, manifest with hashes, proof; all or nothing.

Everything is written beside the target and renamed at the end, so a killed export leaves the old
bundle or none.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from engine.backends.base import CacheType
from engine.bundle.manifest import (
    DECODER,
    ENCODER,
    MANIFEST_NAME,
    TOKENIZER,
    EnginePart,
    FilePart,
    Manifest,
    Precision,
    Target,
    template_part,
)
from engine.prepare import prepare
from engine.template import CT_IQA, LEVELS, Template

from . import draft_head, fp16, int8, parity, to_onnx, to_tensorrt
from .about import About
from .about import read as read_about
from .errors import CheckpointError, ExportError, TargetError
from .slices import CALIBRATION, spread
from .sources.base import Options, Source
from .sources.detect import open_source

__all__ = ["Options", "export"]

_PACKAGES = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers")

Slices = Sequence[NDArray[np.generic]]


def export(
    checkpoint: str | Path,
    out: str | Path,
    slices: Slices,
    *,
    options: Options | None = None,
    precision: Precision = "fp32",
    calibration: Slices = (),
    target: Target = "cpu",
    compute_capabilities: Sequence[str] = (),
    timing_cache: Path | None = None,
    template: Template | None = CT_IQA,
    allow_drift: bool = False,
) -> Manifest:
    """Export a checkpoint and prove parity on real slices.

    Args:
        checkpoint: folder with config.json, safetensors and tokenizer; `training.json`, if there,
            names calibration, licence and data.
        out: the bundle folder; an older bundle there is replaced once everything has been checked.
        slices: (H, W) HU each, for the parity check; at least one.
        options: what the checkpoint leaves open.
        precision: "fp32", "fp16" or "int8"; INT8 is for CPUs.
        calibration: (H, W) HU each, for INT8's activation scales, and for the draft head that a
            source without one is given; empty: `slices`.
        target: "tensorrt" and "tensorrt-rtx" add compiled engines to the FP16 graphs.
        compute_capabilities: GPUs of the engines ("8.6"); TensorRT: this machine's if empty.
        timing_cache: TensorRT's file of kernel timings, read if there, and written.
        template: what captions follow, so that they can be drafted; None for free text.
        allow_drift: write the bundle even if it does not pass the parity gates.

    Returns:
        The manifest that was written.

    Raises:
        CheckpointError: the checkpoint cannot be exported as it is, or its tokenizer does not fit
            the template.
        TargetError: precision, target and this machine do not go together.
        ParityError: the graphs differ from the source.
        ExportError: no slices, no space on the disk, or something else than a bundle is at `out`.
        InputError: a slice is no CT slice.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if not slices:
        raise ExportError("no slices: parity is measured on real slices, so give at least one")
    _check_place(out)
    build = _build_options(precision, target, compute_capabilities, timing_cache)
    source = open_source(checkpoint, options)
    _check_template(source, template)
    about = read_about(checkpoint)
    spec = source.facts.image.spec()
    scaling = spread(calibration or slices, int8.CALIBRATION) if precision == "int8" else []
    # Random weights say the same of every slice: guessing that would flatter every benchmark.
    guessed = source.guess is None and about.score_origin != "random weights"
    guessing = spread(calibration or slices, CALIBRATION) if guessed else []
    work = _Work(
        source=source,
        name=about.name or checkpoint.resolve().name,
        about=about,
        precision=precision,
        target=target,
        build=build,
        slices=[prepare(hu, spec) for hu in slices],
        for_scales=[prepare(hu, spec) for hu in scaling],
        for_guesses=[prepare(hu, spec) for hu in guessing],
        template=template,
        allow_drift=allow_drift,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_space(source, out.parent)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=out.parent) as scratch:
        folder = Path(scratch) / "bundle"
        folder.mkdir()
        try:
            manifest = work.write(folder)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise ExportError(f"the disk of {out.parent} is full; nothing was written") from error
        _replace(folder, out)
    return manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One export, checked and ready to go."""

    source: Source
    name: str
    about: About
    precision: Precision
    target: Target
    build: to_tensorrt.BuildOptions | None
    slices: list[NDArray[np.float32]]
    for_scales: list[NDArray[np.float32]]
    for_guesses: list[NDArray[np.float32]]
    template: Template | None
    allow_drift: bool

    @property
    def cache(self) -> CacheType:
        """Type of the graphs' keys and values."""
        return "float16" if self.precision == "fp16" else "float32"

    def write(self, folder: Path) -> Manifest:
        """Fill the folder; the manifest, without which nothing loads, comes last."""
        quantization, kept = self._graphs(folder)
        self.source.tokenizer.save(str(folder / TOKENIZER))
        figures = parity.measure(
            self.source,
            folder,
            self.slices,
            calibration=self.about.calibration,
            cache=self.cache,
            template=self.template,
        )
        if not self.allow_drift:
            parity.check(figures, self.precision)
        decoder = self.source.facts.decoder
        engines = [] if self.build is None else to_tensorrt.build(folder, decoder, self.build)
        kept += [to_tensorrt.SOFTMAX] if engines else []
        manifest = self._manifest(folder, quantization, kept, engines, figures)
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=1), encoding="utf-8")
        return manifest

    def _graphs(self, folder: Path) -> tuple[str, list[str]]:
        """Write both graphs; returns how they were quantized, and what stayed FP32."""
        encoder, decoder = folder / ENCODER, folder / DECODER
        steps = ((to_onnx.export_encoder, encoder), (to_onnx.export_decoder, decoder))
        for write_graph, path in tqdm(steps, desc="graphs", unit="graph"):
            write_graph(self.source, path)
        if self.template and self.for_guesses:
            self.source.guess = draft_head.fit(self.source, folder, self.for_guesses, self.template)
            to_onnx.export_encoder(self.source, encoder)
        if self.precision == "int8":
            return int8.to_int8(self.source, folder, self.for_scales)
        if self.precision == "fp16":
            kept = self.source.facts.fp32
            return "", [
                f"{path.stem}: {line}"
                for path in (encoder, decoder)
                for line in fp16.to_fp16(path, kept)
            ]
        return "", []

    def _manifest(
        self,
        folder: Path,
        quantization: str,
        kept: list[str],
        engines: list[EnginePart],
        figures: dict[str, float],
    ) -> Manifest:
        facts, about = self.source.facts, self.about
        return Manifest(
            name=self.name,
            version=about.version,
            family=facts.family,
            precision=self.precision,
            quantization=quantization,
            kept_fp32=kept,
            target=self.target,
            engines=engines,
            opset=to_onnx.OPSET,
            image=facts.image,
            decoder=facts.decoder.model_copy(update={"cache": self.cache}),
            tokens=facts.tokens,
            template=template_part(self.template),
            calibration=about.calibration,
            files=_files(folder),
            source_sha256=_source_hash(facts.weights),
            licence=about.licence,
            data=about.data,
            provenance={package: version(package) for package in _PACKAGES},
            score_origin=about.score_origin,
            parity=figures,
            metrics=about.metrics,
        )


def _build_options(
    precision: Precision, target: Target, capabilities: Sequence[str], timing_cache: Path | None
) -> to_tensorrt.BuildOptions | None:
    """What to compile, if anything; checked before any long work.

    Raises:
        TargetError: precision, target and this machine do not go together.
    """
    if target != "cpu" and precision == "int8":
        raise TargetError("INT8 graphs are made for CPUs; use --precision fp16 for a GPU")
    if target not in ("tensorrt", "tensorrt-rtx"):
        if capabilities or timing_cache:
            raise TargetError(
                f"the target {target} compiles nothing; compute capabilities and a timing cache go "
                "with --target tensorrt-rtx and --target tensorrt"
            )
        return None
    if precision != "fp16":
        raise TargetError(f"{target} engines are built from FP16 graphs: use --precision fp16")
    options = to_tensorrt.BuildOptions(
        runtime=target, compute_capabilities=tuple(capabilities), timing_cache=timing_cache
    )
    to_tensorrt.check(options)
    return options


def _check_template(source: Source, template: Template | None) -> None:
    """The tokenizer writes each level word of the template as the token of that level.

    Raises:
        CheckpointError: it does not, so that no caption could be read or drafted.
    """
    if template is None:
        return
    levels = source.facts.tokens.levels
    for level, token in enumerate(levels):
        text = template.caption(dict.fromkeys(template.clauses, level))
        found = [levels.index(t) for t in source.encode(text) if t in levels]
        if found != [level] * len(template.clauses):
            raise CheckpointError(
                f"in {text!r} the tokenizer writes the word {LEVELS[level]!r} otherwise than "
                f"as token {token}; write it as in the captions that the model was trained on"
            )


def _files(folder: Path) -> dict[str, FilePart]:
    """Hash and size of every file of the folder."""
    return {
        path.relative_to(folder).as_posix(): FilePart(
            sha256=_sha256(path), bytes=path.stat().st_size
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _source_hash(weights: Iterable[Path]) -> str:
    """The hash of the weights' file; of several shards, the hash of their hashes in order."""
    hashes = [_sha256(path) for path in weights]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _check_place(out: Path) -> None:
    """Only a bundle, or an empty folder, is ever replaced.

    Raises:
        ExportError: something else is there.
    """
    taken = out.is_file() or (out.is_dir() and any(out.iterdir()))
    if taken and not (out / MANIFEST_NAME).is_file():
        raise ExportError(f"{out} exists and is no bundle; choose another --out, or move it away")


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
