"""FP16 graphs -> TensorRT-RTX engines, ahead of time and without a GPU, or TensorRT engines on one.

Both runtimes have nearly the same API, so one code path serves both: networks are strongly typed
(every tensor has the type that the ONNX graph says), one optimization profile spans the batch and
the number of tokens a pass. TensorRT-RTX builds for any compute capability that it knows; TensorRT
times kernels, so it builds for the GPU of this machine.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal

import onnx
from tqdm import tqdm

from engine.bundle.manifest import DecoderPart, EnginePart, ProfilePart
from engine.whole_file import written_whole

from . import to_onnx
from .errors import ExportError, TargetError

Runtime = Literal["tensorrt", "tensorrt-rtx"]
Graph = Literal["encoder", "decoder"]

BUILD_LOG: Final = "tensorrt-build.log"
SOFTMAX: Final = "engines: softmax in the precision that TensorRT chooses; its parser takes no wish"
_GRAPHS: Final[tuple[Graph, ...]] = ("encoder", "decoder")
_MODULES: Final = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx_bindings"}
_REMEDY: Final = {
    "tensorrt": "pip install tensorrt",
    "tensorrt-rtx": 'pip install "iqagpt[tensorrt-rtx]"',
}
_USUAL_TOKENS: Final = 64
"""A template caption is one pass of about this many tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """What an engine is built for.

    Attributes:
        runtime: "tensorrt-rtx" or "tensorrt".
        compute_capabilities: "8.6", …: one engine pair each. TensorRT: empty, or this machine's.
        max_batch: most slices in one run.
        timing_cache: file of TensorRT's kernel timings, read if there and written; makes the next
            build faster. TensorRT-RTX times nothing while building.
    """

    runtime: Runtime
    compute_capabilities: tuple[str, ...] = ()
    max_batch: int = 8
    timing_cache: Path | None = None


def check(options: BuildOptions) -> ModuleType:
    """Import the runtime's builder and refuse what it cannot build, before any long work.

    Raises:
        TargetError: the package or its GPU is missing, or a compute capability is unknown.
    """
    name = _MODULES[options.runtime]
    try:
        trt = importlib.import_module(name)
    except (ImportError, OSError) as error:
        raise TargetError(
            f"{options.runtime} engines need the package {name}, which cannot be imported "
            f"({error}); {_REMEDY[options.runtime]}. Nothing was written"
        ) from error
    if options.runtime == "tensorrt-rtx":
        _check_known(trt, options.compute_capabilities)
    elif odd := sorted({*options.compute_capabilities} - {_this_gpu()}):
        raise TargetError(
            f"TensorRT builds for the GPU of this machine ({_this_gpu()}), not for "
            f"{', '.join(odd)}; build there, or use --target tensorrt-rtx. Nothing was written"
        )
    return trt


def build(folder: Path, decoder: DecoderPart, options: BuildOptions) -> list[EnginePart]:
    """Build the engines of a bundle folder beside its FP16 graphs; the log is `BUILD_LOG`.

    Args:
        folder: holds encoder.onnx and decoder.onnx.
        decoder: shapes, for the profile's longest pass.
        options: what to build for.

    Raises:
        TargetError: see `check`.
        ExportError: the graph is refused or the build fails; the message ends with the log.
    """
    trt = check(options)
    log = _Log(trt, folder)
    capabilities: Sequence[str] = options.compute_capabilities or (_this_gpu(),)
    parts: list[EnginePart] = []
    try:
        for capability in capabilities:
            for graph in _GRAPHS:
                profile = _profile(graph, decoder, options.max_batch)
                builder = _Builder(trt, log, options, capability)
                file, settings = builder.build(folder, graph, profile)
                parts.append(
                    EnginePart(
                        file=file,
                        graph=graph,
                        runtime=options.runtime,
                        runtime_version=trt.__version__,
                        compute_capability=capability,
                        profile=profile,
                        settings=settings,
                    )
                )
    finally:
        (folder / BUILD_LOG).write_text("\n".join(log.lines) + "\n", encoding="utf-8")
    return parts


def known_capabilities(trt: ModuleType) -> list[str]:
    """The compute capabilities that a TensorRT-RTX release builds for: "7.5", …"""
    names = [n for n in trt.ComputeCapability.__members__ if n.startswith("SM")]
    return sorted((f"{n[2:-1]}.{n[-1]}" for n in names), key=lambda c: [*map(int, c.split("."))])


def _check_known(trt: ModuleType, wanted: Sequence[str]) -> None:
    known = known_capabilities(trt)
    odd = [capability for capability in wanted if capability not in known]
    if odd or not wanted:
        what = f"compute capability {', '.join(odd)} is" if odd else "no compute capability was"
        raise TargetError(
            f"{what} {'not among those of' if odd else 'named for'} TensorRT-RTX "
            f"{trt.__version__}: {', '.join(known)}. nvidia-smi --query-gpu=compute_cap names a "
            "GPU's own. Nothing was written"
        )


def _this_gpu() -> str:
    """Compute capability of the GPU here, which a TensorRT engine is for.

    Raises:
        TargetError: there is none.
    """
    import torch

    if not torch.cuda.is_available():
        raise TargetError(
            "a TensorRT engine is built on the GPU that it is for, and this machine shows none "
            "(nvidia-smi); build there, or use --target tensorrt-rtx, which needs no GPU to build"
        )
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}"


def _profile(graph: Graph, decoder: DecoderPart, max_batch: int) -> ProfilePart:
    if graph == "encoder":
        return ProfilePart(batch=(1, 1, max_batch))
    longest = decoder.max_length
    return ProfilePart(batch=(1, 1, max_batch), length=(1, min(_USUAL_TOKENS, longest), longest))


class _Builder:
    """One engine; TensorRT's objects live no longer than this."""

    def __init__(self, trt: ModuleType, log: _Log, options: BuildOptions, capability: str) -> None:
        self.trt, self.log, self.options, self.capability = trt, log, options, capability
        self.builder = trt.Builder(log.receiver)

    def build(self, folder: Path, graph: Graph, profile: ProfilePart) -> tuple[str, str]:
        """Write one engine file; returns its name and the equivalent trtexec settings."""
        network = self._network(folder / f"{graph}.onnx")
        config = self.builder.create_builder_config()
        settings = self._shapes(network, config, profile)
        if self.options.runtime == "tensorrt-rtx":
            config.num_compute_capabilities = 1
            name = f"SM{self.capability.replace('.', '')}"
            config.set_compute_capability(getattr(self.trt.ComputeCapability, name), 0)
            settings.append(f"--computeCapabilities={self.capability}")
        else:
            self._read_timings(config)
        file = f"{graph}-{self.options.runtime}-{self.capability}.engine"
        with tqdm(desc=file, unit="phase") as bar:
            config.progress_monitor = _monitor(self.trt, bar)
            plan = self.builder.build_serialized_network(network, config)
        if plan is None:
            raise ExportError(f"{file} cannot be built; {self.log.tail()}")
        with written_whole(folder / file) as part:
            part.write_bytes(memoryview(plan))
        if self.options.runtime == "tensorrt":
            self._write_timings(config)
        return file, " ".join([f"--onnx={graph}.onnx", "--stronglyTyped", *settings])

    def _network(self, path: Path) -> Any:
        flag = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = self.builder.create_network(flag)
        parser = self.trt.OnnxParser(network, self.log.receiver)
        with tempfile.TemporaryDirectory(prefix=".tensorrt-", dir=path.parent) as scratch:
            plain = Path(scratch) / path.name
            _without_softmax_precision(path, plain)
            if not parser.parse_from_file(str(plain)):
                raise ExportError(f"{path.name} is refused by the parser; {self.log.tail()}")
        return network

    def _shapes(self, network: Any, config: Any, profile: ProfilePart) -> list[str]:
        """One profile over batch and tokens; every other axis is fixed."""
        ranges = self.builder.create_optimization_profile()
        lines: list[list[str]] = [[], [], []]
        for i in range(network.num_inputs):
            tensor = network.get_input(i)
            shapes = [
                _shape(tuple(tensor.shape), profile.batch[k], profile.length[k]) for k in range(3)
            ]
            ranges.set_shape(tensor.name, *shapes)
            for line, shape in zip(lines, shapes, strict=True):
                line.append(f"{tensor.name}:{'x'.join(map(str, shape))}")
        config.add_optimization_profile(ranges)
        return [
            f"--{kind}Shapes={','.join(line)}"
            for kind, line in zip(("min", "opt", "max"), lines, strict=True)
        ]

    def _read_timings(self, config: Any) -> None:
        file = self.options.timing_cache
        old = file.read_bytes() if file is not None and file.is_file() else b""
        config.set_timing_cache(config.create_timing_cache(old), ignore_mismatch=False)

    def _write_timings(self, config: Any) -> None:
        if self.options.timing_cache is not None:
            with written_whole(self.options.timing_cache) as part:
                part.write_bytes(memoryview(config.get_timing_cache().serialize()))


def _shape(shape: tuple[int, ...], batch: int, length: int) -> tuple[int, ...]:
    """The first free axis is B, the second T."""
    free = iter((batch, length))
    return tuple(next(free) if size < 0 else size for size in shape)


def _without_softmax_precision(path: Path, plain: Path) -> None:
    """The parser refuses this attribute."""
    model = onnx.load(path)
    for node in model.graph.node:
        kept = [a for a in node.attribute if a.name != "softmax_precision"]
        del node.attribute[:]
        node.attribute.extend(kept)
    to_onnx.save(model, plain)


class _Log:
    """Keeps what TensorRT says, but for its verbose lines and `folder`; nothing is printed."""

    def __init__(self, trt: ModuleType, folder: Path) -> None:
        self.lines: list[str] = []
        lines, verbose = self.lines, trt.ILogger.VERBOSE

        class Receiver(trt.ILogger):  # type: ignore[name-defined]  # a class of the binding
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity != verbose:
                    lines.append(f"{severity.name} {message}".replace(f"{folder}/", ""))

        self.receiver = Receiver()

    def tail(self) -> str:
        """The last errors, for a message."""
        errors = [line for line in self.lines if "ERROR" in line.split(" ", 1)[0]]
        return "TensorRT says: " + " | ".join(errors[-3:] or self.lines[-3:])


def _monitor(trt: ModuleType, bar: Any) -> Any:
    """Shows each phase of a build on the bar."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined]  # of the binding
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            bar.set_postfix_str(name[:40])

        def phase_finish(self, name: str) -> None:
            bar.update()

        def step_complete(self, name: str, step: int) -> bool:
            return True

    return Monitor()
