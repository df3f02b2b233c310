"""Where buffers lie: the few things done to them besides running a graph.

A buffer is made once and stays at its address; a graph is bound to views of its leading rows.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .base import MemoryKind

_ALIGNMENT: Final = 64  # bytes; a cache line, and what vector loads like


@dataclass(frozen=True, slots=True)
class Tensor:
    """Numbers at an address, lying together in C order; what an executor binds."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Size in bytes of one row."""
        return self.nbytes // self.shape[0]

    def view(self, *shape: int) -> Tensor:
        """The leading numbers in another shape.

        Raises:
            ValueError: there are not that many.
        """
        if math.prod(shape) > math.prod(self.shape):
            raise ValueError(f"{shape} does not fit into {self.shape}")
        return Tensor(self.address, shape, self.dtype)

    def rows(self, count: int) -> Tensor:
        """The leading rows."""
        return self.view(count, *self.shape[1:])

    def row(self, index: int) -> Tensor:
        """One row, as the only one."""
        address = self.address + index * self.row_bytes
        return Tensor(address, (1, *self.shape[1:]), self.dtype)


@dataclass(frozen=True, slots=True)
class Spec:
    """What a graph says about one of its tensors; a free axis is None."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


class Memory(Protocol):
    """Buffers on one device; what happens to them happens in the order of the calls."""

    @property
    def kind(self) -> MemoryKind:
        """Whose memory it is."""
        ...

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """A new buffer full of zeros; it lives until `free`."""
        ...

    def zero(self, tensor: Tensor) -> None:
        """Set every number to 0."""
        ...

    def copy(self, source: Tensor, target: Tensor) -> None:
        """Copy between two tensors of equal size that do not overlap."""
        ...

    def upload(self, array: NDArray[Any], buffer: Tensor) -> Tensor:
        """Let the device read a C-contiguous array, which must stay alive until `download`.

        Returns:
            `buffer`'s leading numbers, now holding the array; or, on the host, the array itself.
        """
        ...

    def download(self, tensor: Tensor) -> NDArray[Any]:
        """Wait for all that was asked for; a copy that is the caller's."""
        ...

    def synchronize(self) -> None:
        """Wait for all that was asked for."""
        ...

    def free(self) -> None:
        """Give all buffers back; safe to call twice."""
        ...


class HostMemory:
    """Buffers in this process."""

    kind: Final = "host"

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.uint8]] = []

    def allocate(self, shape: tuple[int, ...], dtype: DTypeLike) -> Tensor:
        """See `Memory.allocate`."""
        tensor = Tensor(0, shape, np.dtype(dtype))
        block = np.zeros(tensor.nbytes + _ALIGNMENT, np.uint8)
        self._blocks.append(block)
        first = block.ctypes.data
        return replace(tensor, address=first + -first % _ALIGNMENT)

    def zero(self, tensor: Tensor) -> None:
        """See `Memory.zero`."""
        ctypes.memset(tensor.address, 0, tensor.nbytes)

    def copy(self, source: Tensor, target: Tensor) -> None:
        """See `Memory.copy`."""
        ctypes.memmove(target.address, source.address, source.nbytes)

    def upload(self, array: NDArray[Any], buffer: Tensor) -> Tensor:
        """See `Memory.upload`: nothing is copied."""
        return Tensor(array.ctypes.data, array.shape, buffer.dtype)

    def download(self, tensor: Tensor) -> NDArray[Any]:
        """See `Memory.download`."""
        raw = memoryview((ctypes.c_uint8 * tensor.nbytes).from_address(tensor.address)).cast("B")
        numbers: NDArray[Any] = np.frombuffer(raw, tensor.dtype)
        return numbers.reshape(tensor.shape).copy()

    def synchronize(self) -> None:
        """Nothing to wait for: a run on the host is over when it returns."""

    def free(self) -> None:
        """See `Memory.free`."""
        self._blocks.clear()
