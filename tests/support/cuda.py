"""A stand-in for the CUDA runtime and TensorRT: no GPU can exist where the tests run.

It records and checks every call, and executes the graphs by ONNX Runtime on the CPU. Work put on a
stream is done when the stream is waited for, and not before: who reads a result without waiting
reads zeros. "Device" addresses are ours; a copy or a run that leaves its allocation is an error.
An "engine" file is the ONNX file itself. Enumerations are those of the real packages.
"""

from __future__ import annotations

import ctypes
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
import tensorrt_rtx_bindings
from cuda.bindings import runtime

_OK = runtime.cudaError_t.cudaSuccess
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}


class FakeCuda:
    """The functions of `cuda.bindings.runtime` that the engine calls."""

    cudaMemcpyKind = runtime.cudaMemcpyKind  # noqa: N815  # CUDA's own names
    cudaDeviceAttr = runtime.cudaDeviceAttr  # noqa: N815

    def __init__(
        self,
        capability: tuple[int, int] = (8, 6),
        found: tuple[Any, int | None] = (_OK, 1),
        capacity: int = 2**30,
    ) -> None:
        self.capability, self.found, self.capacity = capability, found, capacity
        self.blocks: dict[int, ctypes.Array[Any]] = {}
        self.streams: dict[int, deque[Callable[[], None]]] = {}
        self.calls: Counter[str] = Counter()

    def cudaGetDeviceCount(self) -> tuple[Any, int | None]:  # noqa: N802
        return self.found

    def cudaDeviceGetAttribute(self, attribute: Any, device: int) -> tuple[Any, int]:  # noqa: N802
        major = attribute == self.cudaDeviceAttr.cudaDevAttrComputeCapabilityMajor
        return _OK, self.capability[0 if major else 1]

    def cudaGetErrorString(self, error: Any) -> tuple[Any, bytes]:  # noqa: N802
        found: tuple[Any, bytes] = runtime.cudaGetErrorString(error)
        return found

    def cudaStreamCreate(self) -> tuple[Any, int]:  # noqa: N802
        handle = 1000 + self.calls["cudaStreamCreate"]
        self.calls["cudaStreamCreate"] += 1
        self.streams[handle] = deque()
        return _OK, handle

    def cudaStreamDestroy(self, stream: int) -> tuple[Any]:  # noqa: N802
        assert not self.streams.pop(stream), "a stream was destroyed with work on it"
        return (_OK,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any]:  # noqa: N802
        self.calls["cudaStreamSynchronize"] += 1
        while self.streams[stream]:
            self.streams[stream].popleft()()
        return (_OK,)

    def cudaDeviceSynchronize(self) -> tuple[Any]:  # noqa: N802
        for stream in self.streams:
            self.cudaStreamSynchronize(stream)
        return (_OK,)

    def cudaMalloc(self, size: int) -> tuple[Any, int | None]:  # noqa: N802
        self.calls["cudaMalloc"] += 1
        if self.held + size > self.capacity:
            return runtime.cudaError_t.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * size)()
        ctypes.memset(block, 0xA5, size)  # fresh memory holds anything
        self.blocks[ctypes.addressof(block)] = block
        return _OK, ctypes.addressof(block)

    def cudaFree(self, address: int) -> tuple[Any]:  # noqa: N802
        assert not any(self.streams.values()), "memory was freed with work under way"
        del self.blocks[address]
        return (_OK,)

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> tuple[Any]:  # noqa: N802
        self.check_inside(address, size)
        self.streams[stream].append(lambda: ctypes.memset(address, value, size) and None)
        return (_OK,)

    def cudaMemcpyAsync(  # noqa: N802
        self, target: int, source: int, size: int, kind: Any, stream: int
    ) -> tuple[Any]:
        kinds = self.cudaMemcpyKind
        self.calls[kind.name] += 1
        if kind != kinds.cudaMemcpyDeviceToHost:
            self.check_inside(target, size)
        if kind != kinds.cudaMemcpyHostToDevice:
            self.check_inside(source, size)
        self.streams[stream].append(lambda: ctypes.memmove(target, source, size) and None)
        return (_OK,)

    @property
    def held(self) -> int:
        """Bytes allocated."""
        return sum(map(len, self.blocks.values()))

    def check_inside(self, address: int, size: int) -> None:
        """An address range lies within one allocation."""
        assert any(
            first <= address and address + size <= first + len(block)
            for first, block in self.blocks.items()
        ), f"{size} bytes at {address:#x} are no device memory of ours"


class FakeTrt:
    """The part of the package `tensorrt_rtx_bindings` that the engine uses."""

    __version__ = "1.7.1.116"
    TensorIOMode = tensorrt_rtx_bindings.TensorIOMode

    class Logger:
        """Swallows what is logged."""

        ERROR = 1

        def __init__(self, severity: int) -> None:
            self.severity = severity

    def __init__(
        self,
        cuda: FakeCuda,
        *,
        max_batch: int = 4,
        alias: str | None = "past",
        rtx: bool = True,
    ) -> None:
        """What it is like.

        Args:
            cuda: the stand-in beneath.
            max_batch: of every engine.
            alias: what each present output says that it is written in place of.
            rtx: TensorRT-RTX, which captures CUDA graphs by itself; else TensorRT, which does not.
        """
        if rtx:
            self.CudaGraphStrategy = tensorrt_rtx_bindings.CudaGraphStrategy
        self.cuda, self.max_batch, self.alias = cuda, max_batch, alias
        self.contexts: list[FakeContext] = []

    def Runtime(self, logger: Logger) -> FakeRuntime:  # noqa: N802  # TensorRT's own name
        return FakeRuntime(self)

    @staticmethod
    def nptype(dtype: Any) -> Any:
        """The stand-in's types are NumPy's already."""
        return dtype


class FakeRuntime:
    """Opens engines."""

    def __init__(self, trt: FakeTrt) -> None:
        self.trt = trt

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        return FakeEngine(self.trt, plan) if plan else None


class FakeEngine:
    """Answers from the ONNX graph."""

    device_memory_size_v2 = 4096

    def __init__(self, trt: FakeTrt, plan: bytes) -> None:
        self.trt = trt
        self.session = ort.InferenceSession(plan, providers=["CPUExecutionProvider"])
        self.read = {arg.name: arg for arg in self.session.get_inputs()}
        self.written = {arg.name: arg for arg in self.session.get_outputs()}
        self.all = {**self.read, **self.written}
        self.num_io_tensors = len(self.all)

    def get_tensor_name(self, index: int) -> str:
        return list(self.all)[index]

    def get_tensor_dtype(self, name: str) -> Any:
        return _TYPES[self.all[name].type]

    def get_tensor_shape(self, name: str) -> list[int]:
        return [size if isinstance(size, int) else -1 for size in self.all[name].shape]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.trt.TensorIOMode
        return modes.INPUT if name in self.read else modes.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        """Smallest, usual, largest: B up to the stand-in's largest batch, T up to the cache."""
        assert name in self.read
        assert profile == 0
        longest = next((a.shape[2] for n, a in self.read.items() if n.startswith("past_")), 1)
        free = {"B": self.trt.max_batch, "T": longest}

        def largest(most: bool) -> tuple[int, ...]:
            sizes = self.read[name].shape
            return tuple(s if isinstance(s, int) else free[s] if most else 1 for s in sizes)

        return [largest(False), largest(False), largest(True)]

    def get_aliased_input_tensor(self, name: str) -> str | None:
        if not name.startswith("present_") or self.trt.alias is None:
            return None
        return name.replace("present", self.trt.alias, 1)

    def create_runtime_config(self) -> FakeConfig:
        return FakeConfig()

    def create_execution_context(self, runtime_config: FakeConfig | None = None) -> FakeContext:
        self.trt.contexts.append(FakeContext(self, runtime_config))
        return self.trt.contexts[-1]


class FakeConfig:
    """How a context runs."""

    def __init__(self) -> None:
        self.cuda_graph_strategy = tensorrt_rtx_bindings.CudaGraphStrategy.DISABLED


class FakeContext:
    """Runs the graph over the addresses it was told."""

    def __init__(self, engine: FakeEngine, config: FakeConfig | None) -> None:
        self.engine, self.config = engine, config
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.get_tensor_profile_shape(name, 0)
        self.shapes[name] = tuple(shape)
        return len(shape) == len(low) and all(
            a <= size <= b for a, size, b in zip(low, shape, high, strict=True)
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.all

    def execute_async_v3(self, stream: int) -> bool:
        cuda, engine = self.engine.trt.cuda, self.engine
        assert self.addresses.keys() == engine.all.keys(), "a tensor has no address"
        assert self.shapes.keys() == engine.read.keys(), "an input has no shape"
        shapes, addresses = self._shapes(), dict(self.addresses)
        for name, shape in shapes.items():
            cuda.check_inside(addresses[name], int(np.prod(shape)) * self._item(name))
        for name in engine.written:
            past = engine.get_aliased_input_tensor(name)
            assert past is None or addresses[name] == addresses[past], f"{name} is not in place"
        cuda.calls["execute"] += 1
        cuda.streams[stream].append(lambda: self._run(shapes, addresses))
        return True

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's shape: free axes of outputs follow from the inputs."""
        sizes = {
            axis: size
            for name, shape in self.shapes.items()
            for axis, size in zip(self.engine.read[name].shape, shape, strict=True)
            if isinstance(axis, str)
        }
        return {
            name: tuple(s if isinstance(s, int) else sizes[s] for s in arg.shape)
            for name, arg in self.engine.all.items()
        }

    def _item(self, name: str) -> int:
        return np.dtype(self.engine.get_tensor_dtype(name)).itemsize

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        binding = self.engine.session.io_binding()
        for name in self.engine.all:
            bind = binding.bind_input if name in self.engine.read else binding.bind_output
            dtype = self.engine.get_tensor_dtype(name)
            bind(name, "cpu", 0, dtype, shapes[name], addresses[name])
        self.engine.session.run_with_iobinding(binding)
