"""TensorRT and TensorRT-RTX engines of a bundle: the only module that loads either package.

Both have nearly the same API, so one executor serves both. An engine fits one compute capability
and one version of its runtime; where none of a bundle's fits, the error says how to build one.
**Never run on a GPU**: tested over a stand-in that executes the graphs by ONNX Runtime and checks
shapes, profiles, addresses, types, streams and waiting; see `tests/support/cuda.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from ..errors import BackendError, BackendUnavailableError
from .base import GraphShapes
from .cuda import CudaMemory, device_capability, open_cuda
from .lanes import LaneGraphs
from .memory import Spec, Tensor

Runtime = Literal["tensorrt", "tensorrt-rtx"]

_PACKAGES: Final[Mapping[str, str]] = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx_bindings",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledEngine:
    """A bundle's engine file, and what it was built for."""

    file: Path
    graph: Literal["encoder", "decoder"]
    runtime: Runtime
    runtime_version: str
    compute_capability: str


def open_engines(
    engines: Sequence[CompiledEngine], shapes: GraphShapes, *, runtime: Runtime, max_batch: int
) -> LaneGraphs:
    """Open the engines that fit this machine.

    Raises:
        BackendUnavailableError: package, driver or GPU is missing, or no engine fits.
        BackendError: an engine cannot be opened, or contradicts `shapes` or `max_batch`.
    """
    try:
        trt = importlib.import_module(_PACKAGES[runtime])
    except (ImportError, OSError) as error:
        raise BackendUnavailableError(
            f"the package {_PACKAGES[runtime]} cannot be imported ({error}); run "
            f'`pip install "iqagpt[{runtime}]"`. Nothing else was used instead'
        ) from error
    return open_with(trt, open_cuda(), engines, shapes, runtime=runtime, max_batch=max_batch)


def open_with(
    trt: Any,
    cuda: Any,
    engines: Sequence[CompiledEngine],
    shapes: GraphShapes,
    *,
    runtime: Runtime,
    max_batch: int,
) -> LaneGraphs:
    """`open_engines` over a TensorRT package and the CUDA runtime API."""
    capability = "{}.{}".format(*device_capability(cuda))
    chosen = choose(engines, runtime, trt.__version__, capability)
    encoder = TrtExecutor(trt, chosen["encoder"].file, CudaMemory(cuda), max_batch)
    decoder = TrtExecutor(trt, chosen["decoder"].file, CudaMemory(cuda), max_batch)
    return LaneGraphs(encoder, decoder, shapes, max_batch=max_batch)


def choose(
    engines: Sequence[CompiledEngine], runtime: Runtime, version: str, capability: str
) -> dict[str, CompiledEngine]:
    """The encoder and decoder engines for a runtime's version and a GPU's compute capability.

    Raises:
        BackendUnavailableError: there are none; the message says which there are, and how to
            build more.
    """
    fitting: dict[str, CompiledEngine] = {
        engine.graph: engine
        for engine in engines
        if (engine.runtime, engine.runtime_version) == (runtime, version)
        and engine.compute_capability == capability
    }
    if fitting.keys() == {"encoder", "decoder"}:
        return fitting
    there = sorted({f"{e.runtime} {e.runtime_version} for {e.compute_capability}" for e in engines})
    raise BackendUnavailableError(
        f"the bundle has no engines of {runtime} {version} for compute capability {capability}; "
        f"it has {', '.join(there) or 'none at all'}. Build them from the checkpoint that the "
        f"bundle was made of: python -m export CHECKPOINT --out BUNDLE "
        f"--target {runtime} --compute-capability {capability}. Nothing else was used instead"
    )


class TrtExecutor:
    """An execution context, made once, whose tensors are CUDA buffers of ours."""

    def __init__(self, trt: Any, file: Path, memory: CudaMemory, max_batch: int) -> None:
        """Read an engine and make its context, which holds all memory that a run needs.

        Raises:
            BackendError: the engine cannot be read, or is for smaller batches.
        """
        self.file, self.memory = file, memory
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        self._engine = self._runtime.deserialize_cuda_engine(file.read_bytes())
        self._context: Any = _new_context(trt, self._engine) if self._engine else None
        if self._context is None:
            raise BackendError(f"{file} cannot be opened by TensorRT; export the bundle again")
        self.inputs, self.outputs = self._specs(trt)
        self.weights = file.stat().st_size + int(self._engine.device_memory_size_v2)
        self._check_batch(max_batch)
        self._check_aliases()

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """See `lanes.Executor.run`: put on the memory's stream, not waited for."""
        for name, tensor in inputs.items():
            if not self._context.set_input_shape(name, tensor.shape):
                raise BackendError(f"{name} {tensor.shape} is outside the engine's profile")
        for name, tensor in {**inputs, **outputs}.items():
            if not self._context.set_tensor_address(name, tensor.address):
                raise BackendError(f"TensorRT refuses the address of {name}")
        if not self._context.execute_async_v3(self.memory.stream):
            raise BackendError(f"TensorRT could not run {self.file.name}")

    def close(self) -> None:
        """See `lanes.Executor.close`."""
        self._context = self._engine = self._runtime = None

    def _specs(self, trt: Any) -> tuple[dict[str, Spec], dict[str, Spec]]:
        found: dict[Any, dict[str, Spec]] = {
            trt.TensorIOMode.INPUT: {},
            trt.TensorIOMode.OUTPUT: {},
        }
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            dtype = np.dtype(trt.nptype(self._engine.get_tensor_dtype(name)))
            sizes = tuple(self._engine.get_tensor_shape(name))
            shape = tuple(None if size < 0 else int(size) for size in sizes)
            found[self._engine.get_tensor_mode(name)][name] = Spec(shape, dtype)
        return found[trt.TensorIOMode.INPUT], found[trt.TensorIOMode.OUTPUT]

    def _check_batch(self, max_batch: int) -> None:
        name = next(iter(self.inputs))
        most = int(self._engine.get_tensor_profile_shape(name, 0)[2][0])
        if max_batch > most:
            raise BackendError(
                f"{self.file} is built for batches of at most {most}, not {max_batch}; load with "
                f"max_batch={most}"
            )

    def _check_aliases(self) -> None:
        """The cache must be written where it is read, or each step would lose the ones before."""
        for name in self.outputs:
            if name.startswith("present_"):
                past = self._engine.get_aliased_input_tensor(name)
                if past != name.replace("present", "past", 1):
                    raise BackendError(
                        f"{self.file}: {name} is not written in place of its past but of {past}; "
                        "export the bundle again"
                    )


def _new_context(trt: Any, engine: Any) -> Any:
    """An execution context; TensorRT-RTX replays a CUDA graph for every shape that comes back.

    It captures them itself, once its kernels for a shape are compiled. TensorRT leaves capturing to
    its user and wants shapes and addresses to stay; those of a pass do not.
    """
    if not hasattr(trt, "CudaGraphStrategy"):
        return engine.create_execution_context()
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    return engine.create_execution_context(config)
