"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8")


def describe() -> dict[str, Any]:
    """CPU, cores, flags that matter, versions."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.is_file() else []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = set(named.get("flags", "").split())
    return {
        "cpu": named.get("model name", platform.processor() or "unknown"),
        "cores": os.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "onnxruntime", "iqagpt")},
    }


def sgemm_gflops(size: int = 1024, rounds: int = 8) -> float:
    """Best float32 matrix product of this machine: the ceiling, as numpy's BLAS reaches it."""
    a = np.ones((size, size), np.float32)
    best = min(_timed(lambda: a @ a) for _ in range(rounds))
    return 2.0 * size**3 / best / 1e9


def _timed(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
