"""A device that is not there is an error that says what is missing; never another device."""

from __future__ import annotations

import importlib.util

import onnxruntime as ort
import pytest
from cuda.bindings import runtime

from engine.backends.cuda import device_capability, open_cuda
from engine.backends.memory import HostMemory
from engine.backends.ort import (
    BOOKKEEPING,
    OrtExecutor,
    check_placement,
    cpu_options,
    gpu_options,
    input_ranges,
    trt_profile,
)
from engine.backends.select import DEVICES, open_graphs
from engine.errors import BackendError, BackendUnavailableError
from tests.support import graphs as tiny
from tests.support.cuda import FakeCuda


def open_on(
    made: tiny.TinyGraphs, device: str, threads: int | None = 1, max_batch: int = 2
) -> None:
    open_graphs(
        made.encoder,
        made.decoder,
        made.shapes,
        device=device,
        threads=threads,
        max_batch=max_batch,
    ).close()


@pytest.mark.parametrize("device", ["gpu", "CPU", "", "cuda:1"])
def test_unknown_devices_are_named_with_those_there_are(made: tiny.TinyGraphs, device: str) -> None:
    with pytest.raises(BackendUnavailableError, match="cpu, cuda, tensorrt-ep, tensorrt") as caught:
        open_on(made, device)
    assert repr(device) in str(caught.value)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("threads", "max_batch"), [(0, 1), (1, 0)])
def test_sizes_below_one_are_refused(
    made: tiny.TinyGraphs, device: str, threads: int, max_batch: int
) -> None:
    with pytest.raises(BackendError, match="at least 1"):
        open_on(made, device, threads, max_batch)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in ort.get_available_providers(), reason="this package has CUDA"
)
@pytest.mark.parametrize(
    ("device", "provider"),
    [("cuda", "CUDAExecutionProvider"), ("tensorrt-ep", "TensorrtExecutionProvider")],
)
def test_a_package_without_the_provider_is_named(
    made: tiny.TinyGraphs, device: str, provider: str
) -> None:
    with pytest.raises(BackendUnavailableError, match="onnxruntime-gpu") as caught:
        open_on(made, device)
    for word in (provider, "driver", "compute capability", "Nothing else was used"):
        assert word in str(caught.value)


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt") is not None, reason="tensorrt is installed"
)
def test_a_missing_tensorrt_package_is_named(made: tiny.TinyGraphs) -> None:
    with pytest.raises(BackendUnavailableError, match=r"iqagpt\[tensorrt\]"):
        open_on(made, "tensorrt")


@pytest.mark.skipif(int(runtime.cudaGetDeviceCount()[0]) == 0, reason="there is a GPU")
def test_a_missing_driver_is_named(made: tiny.TinyGraphs) -> None:
    with pytest.raises(BackendUnavailableError, match="driver") as caught:
        open_cuda()
    assert "cudaError" in str(caught.value)
    with pytest.raises(BackendUnavailableError, match="driver"):
        open_on(made, "tensorrt-rtx")


def test_a_driver_without_a_gpu_is_named() -> None:
    none = FakeCuda(found=(runtime.cudaError_t.cudaSuccess, 0))
    with pytest.raises(BackendUnavailableError, match="0 devices"):
        device_capability(none)
    hidden = FakeCuda(found=(runtime.cudaError_t.cudaErrorNoDevice, None))
    with pytest.raises(BackendUnavailableError, match="cudaErrorNoDevice"):
        device_capability(hidden)


def test_a_gpu_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeCuda(capability=(6, 1))
    for name in ("cudaGetDeviceCount", "cudaDeviceGetAttribute"):
        monkeypatch.setattr(runtime, name, getattr(fake, name))
    with pytest.raises(BackendUnavailableError, match=r"6\.1; at least 7\.5"):
        open_cuda()


def on_cpu(made: tiny.TinyGraphs) -> ort.InferenceSession:
    """What ONNX Runtime makes of a session whose GPU provider it cannot load."""
    return ort.InferenceSession(
        str(made.decoder), gpu_options(), providers=["CPUExecutionProvider"]
    )


def test_a_provider_that_was_not_loaded_is_named(made: tiny.TinyGraphs) -> None:
    with pytest.raises(BackendUnavailableError, match="could not load") as caught:
        check_placement(made.decoder, on_cpu(made), "CUDAExecutionProvider")
    for word in ("CUDAExecutionProvider", "cuDNN", r"iqagpt[gpu]", "Nothing else was used"):
        assert word in str(caught.value)


def test_nodes_elsewhere_than_asked_are_found_out(
    made: tiny.TinyGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = on_cpu(made)
    check_placement(made.decoder, session, "CPUExecutionProvider")
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(session, "get_providers", lambda: both)
    with pytest.raises(BackendError, match="Attention on CPUExecutionProvider") as caught:
        check_placement(made.decoder, session, "CUDAExecutionProvider")
    assert not any(f" {name} on" in str(caught.value) for name in BOOKKEEPING)


def test_tensorrt_builds_one_engine_for_all_shapes(made: tiny.TinyGraphs) -> None:
    encoder, decoder = (trt_profile(ranges) for ranges in input_ranges(made.shapes, 4))
    assert encoder == {
        "trt_profile_min_shapes": "pixels:1x2x4x4",
        "trt_profile_opt_shapes": "pixels:1x2x4x4",
        "trt_profile_max_shapes": "pixels:4x2x4x4",
    }
    names = [part.split(":")[0] for part in decoder["trt_profile_max_shapes"].split(",")]
    session = ort.InferenceSession(str(made.decoder), providers=["CPUExecutionProvider"])
    assert sorted(names) == sorted(arg.name for arg in session.get_inputs())
    assert "tokens:4x20" in decoder["trt_profile_max_shapes"]


def test_a_file_that_is_no_graph_says_so(made: tiny.TinyGraphs) -> None:
    made.encoder.write_bytes(b"not a graph")
    with pytest.raises(BackendError, match="export the bundle again"):
        open_on(made, "cpu")


def test_threads_are_those_that_were_asked_for(made: tiny.TinyGraphs) -> None:
    opened = OrtExecutor(made.encoder, HostMemory(), "CPUExecutionProvider", cpu_options(3))
    assert opened._session.get_session_options().intra_op_num_threads == 3
