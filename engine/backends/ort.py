"""ONNX Runtime on the CPU, and its CUDA and TensorRT providers: alone says "onnxruntime".

The CUDA provider was tested on an H200; the TensorRT provider was **never run on a GPU**. Where
there is none, the errors of such a machine, and the check of where nodes were placed, are tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort

from ..errors import BackendError, BackendUnavailableError
from .base import GraphShapes
from .cuda import DEVICE, CudaMemory, open_cuda
from .lanes import LaneGraphs, graph_names
from .memory import HostMemory, Memory, Spec, Tensor

Provider = Literal["CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"]

_TYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(int64)": np.dtype(np.int64),
}
_ERRORS: Final = 3
"""Severity from which ONNX Runtime prints."""
_CUDA: Final[Mapping[str, str]] = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""FP32 means FP32; and trying every algorithm costs a new batch size 110 ms, not 20 (H200)."""
_DEVICES: Final = {"host": "cpu", "device": "cuda"}

Ranges = Mapping[str, tuple[str, str, str]]
"""Smallest, usual and largest shape of each input, such as "8x3x512x512"."""

BOOKKEEPING: Final = {
    *("Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity"),
    *("Mul", "Range", "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"),
}
"""Operators that GPU providers leave to the CPU on purpose where they compute shapes."""


def open_cpu(
    encoder: Path, decoder: Path, shapes: GraphShapes, *, threads: int | None, max_batch: int
) -> LaneGraphs:
    """Open both graphs on the CPU; arguments as `select.open_graphs`.

    Raises:
        BackendError: a graph cannot be opened, or contradicts `shapes`.
    """
    memory, options = HostMemory(), cpu_options(threads)
    first, second = (
        OrtExecutor(file, memory, "CPUExecutionProvider", options) for file in (encoder, decoder)
    )
    return LaneGraphs(first, second, shapes, max_batch=max_batch)


def open_gpu(
    encoder: Path,
    decoder: Path,
    shapes: GraphShapes,
    *,
    provider: Literal["CUDAExecutionProvider", "TensorrtExecutionProvider"],
    max_batch: int,
) -> LaneGraphs:
    """Open both graphs on the GPU; arguments as `select.open_graphs`.

    Keys, values and caches never leave the GPU; a pass sends token ids there and brings ids and
    the level words' log-probabilities back, because the host decides what to draft next.

    Raises:
        BackendUnavailableError: package, driver or GPU is missing.
        BackendError: a graph cannot be opened, was not placed on the GPU, or contradicts `shapes`.
    """
    require_provider(provider)
    runtime = open_cuda()
    # ONNX Runtime 1.31 warns on every opening that it has no CUDA provider of its plug-in kind.
    ort.set_default_logger_severity(_ERRORS)
    ort.preload_dlls()  # CUDA and cuDNN of the extra `gpu` lie where no loader looks

    def opened(file: Path, ranges: Ranges) -> OrtExecutor:
        memory = CudaMemory(runtime)
        chosen = {"user_compute_stream": str(memory.stream), "device_id": str(DEVICE)}
        own = _CUDA if provider == "CUDAExecutionProvider" else trt_profile(ranges)
        return OrtExecutor(file, memory, provider, gpu_options(), {**chosen, **own})

    ranges = input_ranges(shapes, max_batch)
    first, second = opened(encoder, ranges[0]), opened(decoder, ranges[1])
    return LaneGraphs(first, second, shapes, max_batch=max_batch)


def require_provider(provider: Provider) -> None:
    """See that the installed package brings a provider.

    Raises:
        BackendUnavailableError: it does not.
    """
    if provider not in ort.get_available_providers():
        raise BackendUnavailableError(
            f"ONNX Runtime {ort.__version__} as installed has no {provider}, which the devices "
            "cuda and tensorrt-ep need (one each); the package onnxruntime-gpu has both and "
            "replaces onnxruntime: pip uninstall -y onnxruntime && "
            'pip install "iqagpt[gpu]" (NVIDIA driver for CUDA 13, compute capability 7.5 or '
            "newer). Nothing else was used instead"
        )


def cpu_options(threads: int | None) -> ort.SessionOptions:
    """Options of a session on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS  # errors arrive as exceptions; nothing is printed
    # Each session has threads of its own; spinning ones would take the other session's cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def gpu_options() -> ort.SessionOptions:
    """Options of a session on the GPU."""
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def input_ranges(shapes: GraphShapes, max_batch: int) -> tuple[Ranges, Ranges]:
    """What the inputs of the encoder, and of the decoder, may look like."""
    names = graph_names(shapes)

    def spread(*sizes: tuple[int, ...]) -> tuple[str, str, str]:
        low, usual, high = ("x".join(map(str, size)) for size in sizes)
        return low, usual, high

    pixels = (shapes.channels, shapes.size, shapes.size)
    longest = shapes.max_length
    decoder = {
        "tokens": spread((1, 1), (1, longest), (max_batch, longest)),
        "start": spread((1,), (1,), (max_batch,)),
    }
    for name, size in {**names["cross"], **names["past"]}.items():
        decoder[name] = spread((1, *size), (1, *size), (max_batch, *size))
    return {"pixels": spread((1, *pixels), (1, *pixels), (max_batch, *pixels))}, decoder


def trt_profile(ranges: Ranges) -> dict[str, str]:
    """Options that build one engine for all shapes; without them each new shape builds another."""
    return {
        f"trt_profile_{word}_shapes": ",".join(f"{name}:{r[i]}" for name, r in ranges.items())
        for i, word in enumerate(("min", "opt", "max"))
    }


def check_placement(file: Path, session: ort.InferenceSession, provider: Provider) -> None:
    """Prove that a graph runs where it was asked to.

    Raises:
        BackendUnavailableError: the provider was not loaded; ONNX Runtime goes on without it.
        BackendError: a node that does more than bookkeeping of shapes is elsewhere.
    """
    if provider not in session.get_providers():
        raise BackendUnavailableError(
            f"ONNX Runtime {ort.__version__} could not load its {provider} (it says on stderr "
            "which library is missing); the devices cuda and tensorrt-ep need CUDA 13 and cuDNN "
            '9: `pip install "iqagpt[gpu]"` brings both; tensorrt-ep needs TensorRT besides. '
            "Nothing else was used instead"
        )
    strays = {
        f"{node.op_type} on {part.ep_name}"
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != provider
        for node in part.get_nodes()
        if node.op_type not in BOOKKEEPING
    }
    if strays:
        raise BackendError(
            f"{file} was to run on {provider} and does not: {', '.join(sorted(strays))}. Export "
            "the bundle again, or use another device; nothing else was used"
        )


class OrtExecutor:
    """A session whose inputs and outputs are bound to memory of ours."""

    def __init__(
        self,
        file: Path,
        memory: Memory,
        provider: Provider,
        options: ort.SessionOptions,
        provider_options: Mapping[str, str] | None = None,
    ) -> None:
        """Open a graph.

        Raises:
            BackendUnavailableError: the GPU's provider cannot be loaded.
            BackendError: it cannot be opened, or was not placed on the GPU that was asked for.
        """
        self.file, self.memory = file, memory
        try:
            self._session = ort.InferenceSession(
                str(file), options, providers=[(provider, dict(provider_options or {}))]
            )
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BackendError(
                f"{file} cannot be opened: {error}; export the bundle again"
            ) from error
        if provider != "CPUExecutionProvider":
            check_placement(file, self._session, provider)
        self.inputs = self._specs(self._session.get_inputs())
        self.outputs = self._specs(self._session.get_outputs())
        self.weights = sum(part.stat().st_size for part in file.parent.glob(f"{file.name}*"))
        self._binding = self._session.io_binding()
        self._bound: dict[str, Tensor] = {}

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """See `lanes.Executor.run`; only what changed since the last run is bound again."""
        for tensors, bind in (
            (inputs, self._binding.bind_input),
            (outputs, self._binding.bind_output),
        ):
            for name, tensor in tensors.items():
                if self._bound.get(name) != tensor:
                    bind(name, *self._place(tensor))
                    self._bound[name] = tensor
        self._session.run_with_iobinding(self._binding)

    def close(self) -> None:
        """See `lanes.Executor.close`."""
        self._bound.clear()
        del self._binding, self._session

    def _place(self, tensor: Tensor) -> tuple[str, int, type[np.generic], tuple[int, ...], int]:
        """Arguments of `bind_input` and `bind_output`."""
        device = _DEVICES[self.memory.kind]
        return device, DEVICE, tensor.dtype.type, tensor.shape, tensor.address

    def _specs(self, args: Sequence[Any]) -> dict[str, Spec]:
        unknown = sorted({arg.type for arg in args} - _TYPES.keys())
        if unknown:
            raise BackendError(
                f"{self.file}: tensors of type {', '.join(unknown)}; export the bundle again"
            )
        return {
            arg.name: Spec(
                tuple(size if isinstance(size, int) else None for size in arg.shape),
                _TYPES[arg.type],
            )
            for arg in args
        }
