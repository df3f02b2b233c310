"""Every backend that can run here, behind one fixture; those that need a GPU under `-m gpu`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.backends.base import Graphs
from engine.backends.lanes import LaneGraphs
from engine.backends.select import open_graphs
from engine.backends.tensorrt import CompiledEngine, open_with
from tests.support import graphs as tiny
from tests.support.cuda import FakeCuda, FakeTrt

MAX_BATCH = 4

Open = Callable[..., Graphs]


@dataclass(frozen=True)
class Backend:
    """Opens graphs of `tests.support.graphs` on one device, and says how exact it is."""

    name: str
    device: str = ""
    half: bool = False

    def open(self, folder: Path, *, max_batch: int = MAX_BATCH, **options: Any) -> Graphs:
        """Write graphs with `options` of `graphs.write`, and open them."""
        made = tiny.write(folder, half=self.half, **options)
        return self.open_files(made, max_batch=max_batch)

    def open_files(self, made: tiny.TinyGraphs, *, max_batch: int = MAX_BATCH) -> Graphs:
        """Open graphs that were written already."""
        return open_graphs(
            made.encoder,
            made.decoder,
            made.shapes,
            device=self.device,
            threads=None if self.device != "cpu" else 1,
            max_batch=max_batch,
        )

    @property
    def tolerance(self) -> float:
        """Absolute, of log-probabilities.

        Those of the tiny graphs reach -120, where FP16 has steps of 0.06; a CPU computes FP16 in
        FP32, a GPU does not.
        """
        if not self.half:
            return 1e-4
        return 0.25 if self.device in {gpu.device for gpu in ON_GPU} else 0.05


@dataclass(frozen=True)
class StandIn(Backend):
    """The TensorRT backend over `tests.support.cuda`."""

    def open_files(self, made: tiny.TinyGraphs, *, max_batch: int = MAX_BATCH) -> Graphs:
        """See `Backend.open_files`."""
        return stand_in(FakeTrt(FakeCuda(), max_batch=MAX_BATCH), made, max_batch=max_batch)


def stand_in(trt: FakeTrt, made: tiny.TinyGraphs, *, max_batch: int = MAX_BATCH) -> LaneGraphs:
    """Open the TensorRT backend over stand-ins."""
    engines = [
        CompiledEngine(
            file=file,
            graph=graph,
            runtime="tensorrt-rtx",
            runtime_version=trt.__version__,
            compute_capability="8.6",
        )
        for graph, file in (("encoder", made.encoder), ("decoder", made.decoder))
    ]
    return open_with(
        trt, trt.cuda, engines, made.shapes, runtime="tensorrt-rtx", max_batch=max_batch
    )


def _nvidia_smi(field: str) -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    command = [tool, f"--query-gpu={field}", "--format=csv,noheader"]
    lines = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return lines[0].strip() if lines else ""


def pytest_report_header() -> str:
    """Names the GPU, its driver and compute capability, for a report that is kept."""
    return f"GPU: {_nvidia_smi('name,driver_version,compute_cap') or 'none'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without `-m gpu` nobody expects a GPU; with it, a missing one is a failure."""
    if "gpu" not in str(config.option.markexpr):
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="needs a GPU: run with -m gpu"))


BACKENDS = (
    Backend("cpu", "cpu"),
    Backend("cpu-fp16", "cpu", half=True),
    StandIn("tensorrt-stand-in"),
    StandIn("tensorrt-stand-in-fp16", half=True),
)
# No engines compiled from the tiny graphs: TensorRT-RTX 1.7.1's builder crashes on this decoder,
# though it builds those of real captioners.
ON_GPU = (
    Backend("cuda", "cuda"),
    Backend("cuda-fp16", "cuda", half=True),
    Backend("tensorrt-ep-fp16", "tensorrt-ep", half=True),
)


@pytest.fixture(
    params=[
        *(pytest.param(b, id=b.name) for b in BACKENDS),
        *(pytest.param(b, id=b.name, marks=pytest.mark.gpu) for b in ON_GPU),
    ]
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn."""
    found: Backend = request.param
    return found


@pytest.fixture
def graphs(backend: Backend, tmp_path: Path) -> Iterator[Graphs]:
    """Tiny graphs opened on each backend for at most `MAX_BATCH` rows."""
    opened = backend.open(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def made(tmp_path: Path) -> tiny.TinyGraphs:
    """Tiny FP32 graphs."""
    return tiny.write(tmp_path / "made")
