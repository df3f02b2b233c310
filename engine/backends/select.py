"""Device string -> opened graphs, or an error with the remedy; never another device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, get_args

from ..errors import BackendError, BackendUnavailableError
from .base import Graphs, GraphShapes
from .tensorrt import CompiledEngine, Runtime, open_engines

Device = Literal["cpu", "cuda", "tensorrt-ep", "tensorrt", "tensorrt-rtx"]
DEVICES: Final[tuple[str, ...]] = get_args(Device)


def open_graphs(
    encoder: Path,
    decoder: Path,
    shapes: GraphShapes,
    *,
    device: str,
    threads: int | None,
    max_batch: int,
    engines: Sequence[CompiledEngine] = (),
) -> Graphs:
    """Open a bundle's graphs on a device.

    Args:
        encoder: the encoder's ONNX file.
        decoder: the decoder's ONNX file.
        shapes: what the manifest says about both.
        device: "cpu"; "cuda" or "tensorrt-ep": ONNX Runtime's CUDA or TensorRT provider;
            "tensorrt" or "tensorrt-rtx": `engines`, not the ONNX files.
        threads: threads per graph run on the CPU; None leaves it to the runtime (all physical
            cores).
        max_batch: the most rows one run will have; buffers are made for it.
        engines: the bundle's compiled engines.

    Raises:
        BackendUnavailableError: the device or its runtime is not there, or no engine fits it.
        BackendError: a graph cannot be opened, or contradicts `shapes`.
    """
    if max_batch < 1 or (threads is not None and threads < 1):
        raise BackendError(
            f"max_batch ({max_batch}) and threads ({threads}) must be at least 1; "
            "threads=None uses all physical cores"
        )
    if device not in DEVICES:
        raise BackendUnavailableError(
            f"device {device!r} is not known; there are {', '.join(DEVICES)}. "
            "Nothing else was used instead"
        )
    if device in ("tensorrt", "tensorrt-rtx"):
        runtime: Runtime = "tensorrt" if device == "tensorrt" else "tensorrt-rtx"
        return open_engines(engines, shapes, runtime=runtime, max_batch=max_batch)
    try:
        from . import ort
    except ImportError as error:
        raise BackendUnavailableError(
            f"ONNX Runtime cannot be imported ({error}); run `pip install onnxruntime`"
        ) from error
    if device == "cpu":
        return ort.open_cpu(encoder, decoder, shapes, threads=threads, max_batch=max_batch)
    provider: Literal["CUDAExecutionProvider", "TensorrtExecutionProvider"] = (
        "CUDAExecutionProvider" if device == "cuda" else "TensorrtExecutionProvider"
    )
    return ort.open_gpu(encoder, decoder, shapes, provider=provider, max_batch=max_batch)
