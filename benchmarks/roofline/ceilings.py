"""What this machine can do at most, measured: FP32 and INT8 products, memory bandwidth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

_SIDE: Final = 1024
_ROUNDS: Final = 12
_STREAM_BYTES: Final = 128 << 20
"""Bytes each thread moves a round: more than the caches of the machines this is for."""


Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Best of several rounds each; operations and bytes a second.

    Attributes:
        sgemm: FP32 matrix product, the better of ONNX Runtime's and NumPy's BLAS.
        int8_gemm: MatMulInteger (uint8 by int8, int32 sums) in ONNX Runtime.
        read: reading memory, all threads together (BLAS dot products of long vectors).
        copy: bytes read and written by copying, all threads together.
    """

    sgemm: float
    int8_gemm: float
    read: float
    copy: float


def measure(threads: int | None = None) -> Ceilings:
    """Measure all four, with as many threads as the graphs get (None: all cores)."""
    count = threads or os.cpu_count() or 1
    floats = _product("MatMul", TensorProto.FLOAT, np.ones((_SIDE, _SIDE), np.float32), count)
    bytes_ = np.ones((_SIDE, _SIDE), np.uint8)
    integers = _product("MatMulInteger", TensorProto.UINT8, bytes_, count)
    return Ceilings(
        sgemm=max(floats, _blas() if threads is None else 0.0),
        int8_gemm=integers,
        read=_stream(count, np.dot),
        copy=_stream(count, np.copyto),
    )


def _product(operator: str, kind: int, left: NDArray[np.generic], threads: int) -> float:
    """Operations a second of one square product in ONNX Runtime, its right side a weight."""
    integer = operator == "MatMulInteger"
    weight = np.ones((_SIDE, _SIDE), np.int8 if integer else np.float32)
    result = TensorProto.INT32 if integer else TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        operator,
        [helper.make_tensor_value_info("a", kind, left.shape)],
        [helper.make_tensor_value_info("c", result, [_SIDE, _SIDE])],
        [onnx.numpy_helper.from_array(weight, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return 2.0 * _SIDE**3 / _best(lambda: session.run(None, {"a": left}))


def _blas() -> float:
    """NumPy's product, by the BLAS it was built with."""
    a = np.ones((_SIDE, _SIDE), np.float32)
    return 2.0 * _SIDE**3 / _best(lambda: a @ a)


def _stream(threads: int, work: Callable[[Vector, Vector], object]) -> float:
    """Bytes a second that `threads` threads move together; NumPy gives the lock back meanwhile."""
    length = _STREAM_BYTES // 2 // 4
    pairs = [(np.ones(length, np.float32), np.ones(length, np.float32)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda pair: work(*pair), pairs)))
    return threads * _STREAM_BYTES / seconds


def _best(work: Callable[[], object]) -> float:
    """Seconds of the fastest round: others were disturbed."""
    work()
    times = []
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)
