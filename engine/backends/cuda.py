"""CUDA memory and streams: the only module that says "cuda.bindings".

The order of calls on one `CudaMemory` is that of its stream, and a graph that runs on the same
stream is part of it. Tested on an H200, and where there is no GPU over a recording stand-in of the
CUDA calls, which checks addresses, sizes, streams and waiting; see `tests/support/cuda.py`.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..errors import BackendError, BackendUnavailableError
from .memory import Tensor

DEVICE: Final = 0
"""CUDA_VISIBLE_DEVICES chooses another GPU."""

OLDEST_CAPABILITY: Final = (7, 5)
"""What CUDA 13 and the packages built on it still serve."""


def open_cuda() -> Any:
    """The CUDA runtime API, after a look at driver and GPU.

    Raises:
        BackendUnavailableError: package, driver or GPU is missing, or the GPU is too old.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendUnavailableError(
            f"the package cuda-bindings cannot be imported ({error}); it comes with "
            '`pip install "iqagpt[gpu]"` and with the extra tensorrt-rtx. Nothing else was used '
            "instead"
        ) from error
    capability = device_capability(runtime)
    if capability < OLDEST_CAPABILITY:
        raise BackendUnavailableError(
            f"this GPU has compute capability {_dotted(capability)}; at least "
            f"{_dotted(OLDEST_CAPABILITY)} is needed. Nothing else was used instead"
        )
    return runtime


def device_capability(runtime: Any) -> tuple[int, int]:
    """Compute capability of the GPU.

    Raises:
        BackendUnavailableError: there is no driver, or no GPU.
    """
    error, count = runtime.cudaGetDeviceCount()
    if int(error) or not count:
        said = _name(runtime, error) if int(error) else "0 devices"
        raise BackendUnavailableError(
            f"CUDA shows no GPU ({said}); install an NVIDIA driver for CUDA 13 (580 or newer), "
            "see that `nvidia-smi` lists the GPU, and start containers with --gpus all. Nothing "
            "else was used instead"
        )
    kinds = runtime.cudaDeviceAttr
    wanted = (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
    major, minor = (_checked(runtime, runtime.cudaDeviceGetAttribute(w, DEVICE)) for w in wanted)
    return int(major), int(minor)


class CudaMemory:
    """Buffers on the GPU, and a stream; see `memory.Memory`."""

    kind: Final = "device"

    def __init__(self, runtime: Any) -> None:
        """`runtime` is from `open_cuda`.

        Raises:
            BackendError: the stream cannot be made.
        """
        self._runtime, self._kinds = runtime, runtime.cudaMemcpyKind
        self._addresses: list[int] = []
        self.stream = int(_checked(runtime, runtime.cudaStreamCreate()))
        # Also where opening fails half-way: nobody else would give the GPU's memory back.
        self._free = weakref.finalize(self, _free, runtime, self._addresses, self.stream)
        self._free.atexit = False

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """See `Memory.allocate`.

        Raises:
            BackendError: the GPU has no memory left.
        """
        tensor = Tensor(0, shape, np.dtype(dtype))
        found = self._runtime.cudaMalloc(max(tensor.nbytes, 1))
        address = int(_checked(self._runtime, found))
        self._addresses.append(address)
        tensor = replace(tensor, address=address)
        self.zero(tensor)
        return tensor

    def zero(self, tensor: Tensor) -> None:
        """See `Memory.zero`."""
        self._do("cudaMemsetAsync", tensor.address, 0, tensor.nbytes, self.stream)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """See `Memory.copy`."""
        kind = self._kinds.cudaMemcpyDeviceToDevice
        self._copy(target.address, source.address, source.nbytes, kind)

    def upload(self, array: NDArray[Any], buffer: Tensor) -> Tensor:
        """See `Memory.upload`."""
        target = buffer.view(*array.shape)
        kind = self._kinds.cudaMemcpyHostToDevice
        self._copy(target.address, array.ctypes.data, target.nbytes, kind)
        return target

    def download(self, tensor: Tensor) -> NDArray[Any]:
        """See `Memory.download`."""
        array: NDArray[Any] = np.empty(tensor.shape, tensor.dtype)
        kind = self._kinds.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, tensor.address, tensor.nbytes, kind)
        self.synchronize()
        return array

    def synchronize(self) -> None:
        """See `Memory.synchronize`."""
        self._do("cudaStreamSynchronize", self.stream)

    def free(self) -> None:
        """See `Memory.free`; the stream is given back, too."""
        self._free()

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._do("cudaMemcpyAsync", target, source, size, kind, self.stream)

    def _do(self, name: str, *arguments: Any) -> None:
        _checked(self._runtime, getattr(self._runtime, name)(*arguments))


def _free(runtime: Any, addresses: list[int], stream: int) -> None:
    _checked(runtime, runtime.cudaDeviceSynchronize())  # another stream may use them, too
    while addresses:
        _checked(runtime, runtime.cudaFree(addresses.pop()))
    _checked(runtime, runtime.cudaStreamDestroy(stream))


def _checked(runtime: Any, found: tuple[Any, ...]) -> Any:
    """The value of a CUDA call, or the error that it returned."""
    error, *values = found
    if int(error):
        raise BackendError(f"CUDA says {_name(runtime, error)}")
    return values[0] if values else None


def _name(runtime: Any, error: Any) -> str:
    _, text = runtime.cudaGetErrorString(error)
    return f"{error.name}: {text.decode() if isinstance(text, bytes) else text}"


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
