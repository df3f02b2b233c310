"""What is made before contestants can start, once: weights, bundles, graphs, environments."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np

from engine.bundle.manifest import Manifest
from engine.bundle.store import open_bundle
from engine.errors import IqaError
from engine.prepare import prepare

from ..harness.slices import example_slices
from .contestants import Contestant, Precision
from .protocol import Setup

_ROOT: Final = Path(__file__).parents[2]
_REQUIREMENTS: Final = Path(__file__).parent / "requirements"


class WorkplaceError(IqaError):
    """Something could not be made; the message names the command and its output."""


class Unavailable(IqaError):  # noqa: N818  # a reason, not a fault
    """This contestant cannot take part here; the message says why."""


class Workplace:
    """A folder that keeps everything a model's contestants need.

    Attributes:
        checkpoint: the weights; None for the default bundle on its own.
    """

    def __init__(self, folder: Path, model: str, checkpoint: Path | None) -> None:
        """Make the folder and, where no checkpoint is given, one of random weights."""
        self._cache = folder.resolve()
        self.checkpoint = checkpoint and checkpoint.resolve()
        self._folder = self._cache / (
            model if checkpoint is None else _named(model, self.checkpoint)
        )
        self._folder.mkdir(parents=True, exist_ok=True)
        if checkpoint is None and model != "default":
            self.checkpoint = self._folder / "checkpoint"
            if not (self.checkpoint / "template.json").is_file():
                command = [sys.executable, "-m", "export.random_checkpoint"]
                _make(f"{model}: random weights", *command, model, str(self.checkpoint))

    def bundle(self, precision: Precision) -> Path | None:
        """The bundle of the checkpoint; None: the embedded one.

        Raises:
            Unavailable: the default bundle has one precision, and there is no checkpoint.
        """
        if self.checkpoint is None:
            if precision != open_bundle(None).manifest.precision:
                raise Unavailable(f"no {precision} bundle: --checkpoint names no weights to export")
            return None
        target = self._folder / precision
        if self._stale(target / "manifest.json"):
            # Drift of INT8 is what the benchmark counts.
            drift = ["--allow-drift"] if precision == "int8" else []
            command = [str(self.checkpoint), "--out", str(target), "--precision", precision, *drift]
            _make(f"{precision} bundle", sys.executable, "-m", "export", *command)
        return target

    def graph(self, name: str) -> Path:
        """The folder that holds this file of `baseline_graphs`.

        Raises:
            Unavailable: there is no checkpoint to export.
        """
        folder = self._folder / "graphs"
        if self.checkpoint is None:
            raise Unavailable("needs the default bundle's weights: give their --checkpoint")
        if self._stale(folder / name):
            module = "benchmarks.peers.baseline_graphs"
            _make(name, sys.executable, "-m", module, str(self.checkpoint), str(folder), name)
        return folder

    def pixels(self, manifest: Manifest) -> Path:
        """The example slices as the manifest wants them, (N, C, size, size) float32 in .npy."""
        path = self._folder / "pixels.npy"
        np.save(path, np.stack([prepare(hu, manifest.image.spec()) for hu in example_slices()]))
        return path

    def interpreter(self, environment: str | None) -> Path:
        """The interpreter of an environment, made at its first use."""
        if environment is None:
            return Path(sys.executable)
        wanted = _REQUIREMENTS / f"{environment}.txt"
        digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:8]
        folder = self._cache / "environments" / f"{environment}-{digest}"
        python = folder / "bin" / "python"
        if not (folder / "ready").is_file():
            shutil.rmtree(folder, ignore_errors=True)
            what = f"environment for {environment} in {folder}"
            _make(what, sys.executable, "-m", "venv", str(folder))
            _make(
                f"{environment}: packages", str(python), "-m", "pip", "install", "-r", str(wanted)
            )
            (folder / "ready").touch()
        return python

    def log(self, contestant: Contestant) -> Path:
        """The file that takes a worker's stderr."""
        return self._folder / f"{contestant.name}.log"

    def setup(
        self, contestant: Contestant, manifest: Manifest, pixels: Path, threads: int, batch: int
    ) -> Setup:
        """Make what the contestant needs.

        Raises:
            Unavailable: it cannot take part.
            WorkplaceError: something could not be made.
        """
        if contestant.gpu and not gpu_present():
            raise Unavailable("no GPU")
        if contestant.checkpoint and self.checkpoint is None:
            raise Unavailable("needs the default bundle's weights: give their --checkpoint")
        folders = [self.graph(name) for name in contestant.graphs]
        bundle = open_bundle(self.bundle(contestant.bundle)).folder if contestant.bundle else ""
        return Setup(
            pixels=str(pixels),
            checkpoint=str(self.checkpoint or ""),
            bundle=str(bundle),
            graphs=str(folders[0]) if folders else "",
            prompt=tuple(manifest.tokens.prompt),
            end=manifest.tokens.end,
            max_length=manifest.decoder.max_length,
            threads=threads,
            max_batch=batch,
            options=contestant.options,
        )

    def _stale(self, target: Path) -> bool:
        """Missing, or older than the weights it was made from."""
        if not target.is_file() or self.checkpoint is None:
            return True
        weights = max(f.stat().st_mtime for f in self.checkpoint.glob("*.safetensors"))
        return target.stat().st_mtime < weights


def _named(model: str, checkpoint: Path | None) -> str:
    """A folder name of a checkpoint's own: what was made from another one must not be used."""
    return f"{model}-{hashlib.sha256(str(checkpoint).encode()).hexdigest()[:8]}"


def gpu_present() -> bool:
    """Whether the NVIDIA driver lists a GPU."""
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.returncode == 0 and "GPU" in listed.stdout


def _make(what: str, *command: str) -> None:
    """Run a command that makes something, saying so.

    Raises:
        WorkplaceError: it failed.
    """
    sys.stderr.write(f"making {what} …\n")
    done = subprocess.run(
        command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        tail = done.stdout[-1500:]
        raise WorkplaceError(f"{what} could not be made by `{' '.join(command)}`:\n{tail}")
