"""Bookkeeping of the TensorRT backend over a stand-in for CUDA and TensorRT: no GPU is needed."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import tensorrt_rtx_bindings
from cuda.bindings import runtime

from engine.backends.base import LANES
from engine.backends.cuda import CudaMemory
from engine.backends.tensorrt import CompiledEngine, choose
from engine.errors import BackendError, BackendUnavailableError
from tests.support import graphs as tiny
from tests.support.cuda import FakeConfig, FakeContext, FakeCuda, FakeEngine, FakeRuntime, FakeTrt

from .conftest import MAX_BATCH, stand_in


def decode(graphs: object, rows: int, steps: int) -> None:
    decoder = graphs.encode(tiny.pixels(rows))  # type: ignore[attr-defined]
    for t in range(steps):
        decoder.step(np.full((rows, 1), 5), np.full(rows, t))
    decoder.release()


def test_the_stand_in_has_only_what_the_real_packages_have() -> None:
    for name in vars(FakeCuda):
        assert name.startswith(("_", "check_", "held")) or hasattr(runtime, name), name
    real = tensorrt_rtx_bindings
    pairs = (
        (FakeRuntime, real.Runtime),
        (FakeEngine, real.ICudaEngine),
        (FakeContext, real.IExecutionContext),
        (FakeConfig, real.IRuntimeConfig),
        (FakeTrt, real),
    )
    for fake, other in pairs:
        for name in vars(fake):
            assert name.startswith("_") or hasattr(other, name), f"{other} has no {name}"


def test_steady_state_allocates_nothing_on_the_device(made: tiny.TinyGraphs) -> None:
    cuda = FakeCuda()
    graphs = stand_in(FakeTrt(cuda), made)
    allocated, held = cuda.calls["cudaMalloc"], cuda.held
    for rows in (1, MAX_BATCH, 2, MAX_BATCH):
        decode(graphs, rows, steps=5)
    assert cuda.calls["cudaMalloc"] == allocated
    assert cuda.held == held
    assert len(graphs._lanes) == LANES  # the buffers below are those of all lanes
    weights = sum(f.stat().st_size for f in (made.encoder, made.decoder))
    assert graphs.memory() == {"host": 0, "device": held + weights + 2 * 4096}


def test_a_step_moves_ids_and_log_probabilities_only(made: tiny.TinyGraphs) -> None:
    cuda = FakeCuda()
    graphs = stand_in(FakeTrt(cuda), made)
    decode(graphs, 3, steps=1)
    before = cuda.calls.copy()
    decoder = graphs.encode(tiny.pixels(3))
    encoded = cuda.calls - before
    assert encoded["cudaMemcpyHostToDevice"] == 1  # pixels
    assert encoded["cudaMemcpyDeviceToHost"] == 1  # guesses
    before = cuda.calls.copy()
    decoder.step(np.full((3, 4), 5), np.zeros(3, np.int64))
    stepped = cuda.calls - before
    assert stepped["cudaMemcpyHostToDevice"] == 2  # tokens, start
    assert stepped["cudaMemcpyDeviceToHost"] == 2  # next tokens, log-probabilities
    assert stepped["execute"] == 1
    before = cuda.calls.copy()
    decoder.move(2, 0)
    assert (cuda.calls - before)["cudaMemcpyDeviceToDevice"] == 4  # never over the host
    assert (cuda.calls - before).total() == 4


def test_tensorrt_rtx_is_asked_to_replay_cuda_graphs(made: tiny.TinyGraphs) -> None:
    trt = FakeTrt(FakeCuda())
    stand_in(trt, made)
    assert len(trt.contexts) == 2
    wanted = tensorrt_rtx_bindings.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    configs = [context.config for context in trt.contexts if context.config]
    assert [config.cuda_graph_strategy for config in configs] == [wanted, wanted]
    assert hasattr(tensorrt_rtx_bindings.IRuntimeConfig, "cuda_graph_strategy")
    plain = FakeTrt(FakeCuda(), rtx=False)
    decode(stand_in(plain, made), 2, steps=2)
    assert [context.config for context in plain.contexts] == [None, None]


def test_close_gives_everything_back(made: tiny.TinyGraphs) -> None:
    cuda = FakeCuda()
    graphs = stand_in(FakeTrt(cuda), made)
    decode(graphs, 2, steps=2)
    graphs.close()
    assert cuda.held == 0
    assert not cuda.streams


@pytest.mark.parametrize("fault", ["shapes", "batch", "alias", "no alias", "file", "memory"])
def test_what_fails_to_open_leaves_nothing_behind(made: tiny.TinyGraphs, fault: str) -> None:
    cuda = FakeCuda(capacity=2000 if fault == "memory" else 2**30)
    aliases = {"alias": "cross", "no alias": None}
    trt = FakeTrt(
        cuda, max_batch=2 if fault == "batch" else MAX_BATCH, alias=aliases.get(fault, "past")
    )
    if fault == "file":
        made.decoder.write_bytes(b"")
    if fault == "shapes":
        fields = {name: getattr(made.shapes, name) for name in made.shapes.__slots__}
        shapes = type(made.shapes)(**{**fields, "heads": 3})
        made = tiny.TinyGraphs(encoder=made.encoder, decoder=made.decoder, shapes=shapes)
    said = {
        "shapes": "heads|key",
        "batch": "max_batch=2",
        "alias": "in place",
        "no alias": "in place",
        "file": "export",
        "memory": "MemoryAllocation",
    }
    with pytest.raises(BackendError, match=said[fault]):
        stand_in(trt, made)
    gc.collect()
    assert cuda.held == 0
    assert not cuda.streams


def test_a_pass_outside_the_profile_is_refused(made: tiny.TinyGraphs) -> None:
    cuda = FakeCuda()
    trt = FakeTrt(cuda)
    graphs = stand_in(trt, made)
    trt.max_batch = 1  # as if the engine had been built for less than it said
    with pytest.raises(BackendError, match="profile"):
        graphs.encode(tiny.pixels(2))


ENGINES = [
    CompiledEngine(
        file=Path(f"{graph}-{capability}.engine"),
        graph=graph,  # type: ignore[arg-type]
        runtime="tensorrt-rtx",
        runtime_version="1.7.1.116",
        compute_capability=capability,
    )
    for capability in ("8.6", "8.9")
    for graph in ("encoder", "decoder")
]


def test_the_engine_of_this_gpu_is_chosen() -> None:
    found = choose(ENGINES, "tensorrt-rtx", "1.7.1.116", "8.9")
    assert {graph: engine.file.name for graph, engine in found.items()} == {
        "encoder": "encoder-8.9.engine",
        "decoder": "decoder-8.9.engine",
    }


@pytest.mark.parametrize(
    ("runtime_name", "version", "capability"),
    [
        ("tensorrt-rtx", "1.7.1.116", "12.0"),
        ("tensorrt-rtx", "1.8.0.1", "8.6"),
        ("tensorrt", "1.7.1.116", "8.6"),
    ],
)
def test_where_no_engine_fits_the_error_names_the_export_line(
    runtime_name: str, version: str, capability: str
) -> None:
    line = (
        "python -m export CHECKPOINT --out BUNDLE --target "
        f"{runtime_name} --compute-capability {capability}"
    )
    with pytest.raises(BackendUnavailableError, match=line) as caught:
        choose(ENGINES, runtime_name, version, capability)  # type: ignore[arg-type]
    assert "tensorrt-rtx 1.7.1.116 for 8.9" in str(caught.value)
    with pytest.raises(BackendUnavailableError, match="none at all"):
        choose([], runtime_name, version, capability)  # type: ignore[arg-type]


def test_an_encoder_alone_does_not_fit() -> None:
    with pytest.raises(BackendUnavailableError):
        choose(ENGINES[:1], "tensorrt-rtx", "1.7.1.116", "8.6")


def test_memory_of_the_gpu_starts_as_zeros_and_keeps_order() -> None:
    memory = CudaMemory(FakeCuda())
    buffer = memory.allocate((4, 3), np.float32)
    np.testing.assert_array_equal(memory.download(buffer), np.zeros((4, 3)))
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    memory.upload(numbers, buffer)
    memory.copy(buffer.row(1), buffer.row(3))
    memory.zero(buffer.rows(1))
    wanted = [[0, 0, 0], [3, 4, 5], [0, 0, 0], [3, 4, 5]]
    np.testing.assert_array_equal(memory.download(buffer), np.array(wanted))
    memory.free()
    memory.free()
