"""What the figures were measured on, and how much memory it took."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")
_PACKAGES = ("iqagpt", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt")
_MB = 2.0**20


def describe() -> dict[str, Any]:
    """Facts of `schema.Machine` as plain data: CPU, GPUs, clocks, load, versions."""
    import psutil

    clock = psutil.cpu_freq()
    named = _cpu_fields()
    flags = set(named.get("flags", "").split())
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": named.get("model name", platform.processor() or "unknown"),
        "cores": len(affinity(0)) if affinity else os.cpu_count() or 1,
        "flags": [flag for flag in _FLAGS if flag in flags],
        "clock_mhz": clock.current if clock else None,
        "max_clock_mhz": clock.max if clock and clock.max else None,
        "memory_mb": int(psutil.virtual_memory().total / _MB),
        "load_average": list(psutil.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": _versions(),
        "gpus": _gpus(),
    }


def sgemm_gflops(size: int = 1024, rounds: int = 8) -> float:
    """Best float32 matrix product of this machine: the ceiling, as NumPy's BLAS reaches it."""
    a = np.ones((size, size), np.float32)
    best = min(_timed(lambda: a @ a) for _ in range(rounds))
    return 2.0 * size**3 / best / 1e9


def peak_rss_mb() -> float:
    """The most host memory that this process has had resident, MB of 2^20 bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage would start from the parent's peak
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024.0
    import psutil

    info = psutil.Process().memory_info()
    return float(getattr(info, "peak_wset", info.rss)) / _MB


class VramPeak:
    """Watches the first GPU's used memory in a thread, between `with` and its end.

    It counts everybody's memory: within a container, NVML cannot tell processes apart. Without a
    GPU there is no thread and `mb` stays None. No test has run this on a GPU.
    """

    def __init__(self, interval: float = 0.05) -> None:
        """`interval` is in seconds."""
        self.mb: float | None = None
        self._interval = interval
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        nvml = _nvml()
        if nvml is not None and nvml.nvmlDeviceGetCount():
            self._thread = threading.Thread(target=self._watch, args=(nvml,), daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self, nvml: Any) -> None:
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        while True:
            used = nvml.nvmlDeviceGetMemoryInfo(handle).used / _MB
            self.mb = max(self.mb or 0.0, used)
            if self._ended.wait(self._interval):
                return


def _cpu_fields() -> dict[str, str]:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    fields = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in fields}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _nvml() -> Any | None:
    """NVIDIA's management library, or None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _gpus() -> list[dict[str, Any]]:
    nvml = _nvml()
    if nvml is None:
        return []
    cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()
    return [
        _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), f"{cuda // 1000}.{cuda % 1000 // 10}")
        for index in range(nvml.nvmlDeviceGetCount())
    ]


def _gpu(nvml: Any, handle: Any, cuda: str) -> dict[str, Any]:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    return {
        "name": nvml.nvmlDeviceGetName(handle),
        "compute_capability": f"{major}.{minor}",
        "driver": nvml.nvmlSystemGetDriverVersion(),
        "cuda": cuda,
        "memory_mb": int(nvml.nvmlDeviceGetMemoryInfo(handle).total / _MB),
        "sm_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "max_sm_clock_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM),
        "persistence": bool(nvml.nvmlDeviceGetPersistenceMode(handle)),
    }


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
