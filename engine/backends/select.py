"""Device string -> opened graphs, or an error with the remedy; never another device."""

from __future__ import annotations

from pathlib import Path

from ..errors import BackendError, BackendUnavailableError
from .base import Graphs, GraphShapes


def open_graphs(
    encoder: Path,
    decoder: Path,
    shapes: GraphShapes,
    *,
    device: str,
    threads: int | None,
    max_batch: int,
) -> Graphs:
    """Open a bundle's graphs on a device.

    Args:
        encoder: the encoder's ONNX file.
        decoder: the decoder's ONNX file.
        shapes: what the manifest says about both.
        device: "cpu".
        threads: threads per graph run; None leaves it to the runtime (all physical cores).
        max_batch: the most rows one run will have; buffers are made for it.

    Raises:
        BackendUnavailableError: the device or its runtime is not there.
        BackendError: a graph cannot be opened, or contradicts `shapes`.
    """
    if max_batch < 1 or (threads is not None and threads < 1):
        raise BackendError(
            f"max_batch ({max_batch}) and threads ({threads}) must be at least 1; "
            "threads=None uses all physical cores"
        )
    if device != "cpu":
        raise BackendUnavailableError(
            f"device {device!r} is not available: GPU backends are not built yet. "
            'Use device="cpu"; nothing else was used instead'
        )
    try:
        from .ort import open_cpu
    except ImportError as error:
        raise BackendUnavailableError(
            f"ONNX Runtime cannot be imported ({error}); run `pip install onnxruntime`"
        ) from error
    return open_cpu(encoder, decoder, shapes, threads=threads, max_batch=max_batch)
