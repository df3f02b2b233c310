"""ONNX Runtime: the only module that says "onnxruntime"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort

from ..errors import BackendError
from .base import CacheType, GraphShapes
from .lanes import GUESSES, LaneGraphs, graph_names
from .memory import HostMemory, Memory, Tensor

_TYPES: Final = {"float32": "tensor(float)", "float16": "tensor(float16)"}
_DEVICES: Final = {"host": "cpu", "device": "cuda"}


def open_cpu(
    encoder: Path, decoder: Path, shapes: GraphShapes, *, threads: int | None, max_batch: int
) -> LaneGraphs:
    """Open both graphs on the CPU; arguments as `select.open_graphs`.

    Raises:
        BackendError: a graph cannot be opened, or contradicts `shapes`.
    """
    memory = HostMemory()
    opened = OrtExecutor(encoder, memory, threads=threads)
    decoding = OrtExecutor(decoder, memory, threads=threads)
    check_contract(opened, decoding, shapes)
    return LaneGraphs(opened, decoding, shapes, max_batch=max_batch)


class OrtExecutor:
    """A session whose inputs and outputs are bound to memory of ours."""

    def __init__(self, file: Path, memory: Memory, *, threads: int | None) -> None:
        """Open a graph.

        Raises:
            BackendError: it cannot be opened.
        """
        self.file = file
        self.memory = memory
        self.session = _open(file, threads)
        self.weights = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
        self.outputs = frozenset(arg.name for arg in self.session.get_outputs())
        self._binding = self.session.io_binding()
        self._bound: dict[str, Tensor] = {}

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """See `lanes.Executor.run`; only what changed since the last run is bound again."""
        for name, tensor in inputs.items():
            if self._bound.get(name) != tensor:
                self._binding.bind_input(name, *self._place(tensor))
        for name, tensor in outputs.items():
            if self._bound.get(name) != tensor:
                self._binding.bind_output(name, *self._place(tensor))
        self._bound = {**inputs, **outputs}
        self.session.run_with_iobinding(self._binding)

    def close(self) -> None:
        """See `lanes.Executor.close`."""
        self._bound.clear()
        del self._binding, self.session

    def _place(self, tensor: Tensor) -> tuple[str, int, type[np.generic], tuple[int, ...], int]:
        """Arguments of `bind_input` and `bind_output`."""
        device = _DEVICES[self.memory.kind]
        return device, 0, tensor.dtype.type, tensor.shape, tensor.address


def _open(file: Path, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Each session has threads of its own; spinning ones would take the other session's cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors arrive as exceptions; nothing is printed
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise BackendError(f"{file} cannot be opened: {error}; export the bundle again") from error


def check_contract(encoder: OrtExecutor, decoder: OrtExecutor, shapes: GraphShapes) -> None:
    """Compare both graphs with what the manifest says.

    Raises:
        BackendError: a name, shape or type differs.
    """
    names = graph_names(shapes)
    pixels = {"pixels": (shapes.channels, shapes.size, shapes.size)}
    guesses = (GUESSES,) if GUESSES in encoder.outputs else ()
    reads, writes = encoder.session.get_inputs(), encoder.session.get_outputs()
    _check(encoder.file, reads, pixels, "float32")
    _check(encoder.file, writes, names["cross"], shapes.cache, guesses)
    reads, writes = decoder.session.get_inputs(), decoder.session.get_outputs()
    kept = {**names["cross"], **names["past"]}
    _check(decoder.file, reads, kept, shapes.cache, ("tokens", "start"))
    results = ("next_tokens", "level_logprobs")
    _check(decoder.file, writes, names["present"], shapes.cache, results)


def _check(
    file: Path,
    found: Sequence[ort.NodeArg],
    floats: Mapping[str, tuple[int, ...]],
    kind: CacheType,
    others: tuple[str, ...] = (),
) -> None:
    """Compare one side of a graph with the contract.

    `floats` maps names to their shapes after B, all of type `kind`; of `others` only the names
    count.
    """
    args = {arg.name: arg for arg in found}
    if args.keys() != {*floats, *others}:
        odd = sorted(args.keys() ^ {*floats, *others})
        raise BackendError(f"{file}: {', '.join(odd)} missing or unknown; export the bundle again")
    for name, shape in floats.items():
        arg = args[name]
        fits = len(arg.shape) == len(shape) + 1 and all(
            actual == wanted
            for actual, wanted in zip(arg.shape[1:], shape, strict=True)
            if isinstance(actual, int)
        )
        if arg.type != _TYPES[kind] or not fits:
            raise BackendError(
                f"{file}: {name} is {arg.type} {arg.shape}, the manifest says {_TYPES[kind]} "
                f"with {shape} after the batch; export the bundle again"
            )
