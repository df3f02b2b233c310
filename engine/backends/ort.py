"""ONNX Runtime on the CPU: the only module that says "onnxruntime".

The cross-attention keys and values and the decoder's cache live in buffers made once for
`max_batch` rows. A smaller batch binds their leading rows, which lie together in memory. The cache
is bound as past input and present output at once, so that TensorScatter writes in place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import BackendError
from ..template import ATTRIBUTES
from .base import CacheType, GraphShapes

_TYPES: Final = {"float32": "tensor(float)", "float16": "tensor(float16)"}
_KINDS: Final = ("key", "value")
_GUESSES: Final = "draft_levels"


class _Buffer:
    """Zeroed rows at one place in memory for the engine's life."""

    def __init__(self, shape: tuple[int, ...], kind: CacheType) -> None:
        self.array = np.zeros(shape, kind)
        self.value = ort.OrtValue.ortvalue_from_numpy(self.array)

    def binding(self, rows: int) -> tuple[str, int, type[np.generic], tuple[int, ...], int]:
        """Arguments of `bind_input` and `bind_output` for the leading rows."""
        shape = (rows, *self.array.shape[1:])
        return "cpu", 0, self.array.dtype.type, shape, self.value.data_ptr()


class OrtGraphs:
    """Encoder and decoder sessions and the buffers they share."""

    def __init__(
        self,
        encoder: Path,
        decoder: Path,
        shapes: GraphShapes,
        *,
        threads: int | None,
        max_batch: int,
    ) -> None:
        """Open both graphs and make the buffers; arguments as `select.open_graphs`.

        Raises:
            BackendError: a graph cannot be opened, or contradicts `shapes`.
        """
        if max_batch < 1 or (threads is not None and threads < 1):
            raise BackendError(
                f"max_batch ({max_batch}) and threads ({threads}) must be at least 1; "
                "threads=None uses all physical cores"
            )
        names = [f"{kind}_{layer}" for layer in range(shapes.layers) for kind in _KINDS]
        source = (shapes.heads, shapes.source_length, shapes.head_dim)
        cached = (shapes.heads, shapes.max_length, shapes.head_dim)
        self._encoder = _open(encoder, threads)
        self._decoder = _open(decoder, threads)
        pixels = (shapes.channels, shapes.size, shapes.size)
        cross = {f"cross_{name}": source for name in names}
        past = {f"past_{name}": cached for name in names}
        present = {f"present_{name}": cached for name in names}
        kind = shapes.cache
        inputs, outputs = ("tokens", "start"), ("next_tokens", "level_logprobs")
        _check(encoder, self._encoder.get_inputs(), {"pixels": pixels}, "float32")
        found = self._encoder.get_outputs()
        self._guessing = any(arg.name == _GUESSES for arg in found)  # a bundle may do without
        _check(encoder, found, cross, kind, (_GUESSES,) if self._guessing else ())
        _check(decoder, self._decoder.get_inputs(), {**cross, **past}, kind, inputs)
        _check(decoder, self._decoder.get_outputs(), present, kind, outputs)
        self._max_batch = max_batch
        self._cross = {name: _Buffer((max_batch, *source), kind) for name in cross}
        self._cache = {name: _Buffer((max_batch, *cached), kind) for name in names}

    def encode(self, pixels: NDArray[np.float32]) -> OrtDecoder:
        """See `backends.base.Graphs.encode`."""
        rows = pixels.shape[0]
        if not 1 <= rows <= self._max_batch:
            raise BackendError(f"a batch has 1 to {self._max_batch} rows; got {rows}")
        binding = self._encoder.io_binding()
        guesses = np.empty((rows, len(ATTRIBUTES)), np.int64) if self._guessing else None
        try:
            binding.bind_cpu_input("pixels", np.ascontiguousarray(pixels))
            for name, buffer in self._cross.items():
                binding.bind_output(name, *buffer.binding(rows))
            if guesses is not None:
                _bind_result(binding, _GUESSES, guesses)
            self._encoder.run_with_iobinding(binding)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BackendError(f"the encoder failed on pixels {pixels.shape}: {error}") from error
        for buffer in self._cache.values():
            buffer.array[:rows] = 0.0
        return OrtDecoder(self._decoder, rows, self._cross, self._cache, guesses)

    def close(self) -> None:
        """See `backends.base.Graphs.close`."""
        del self._encoder, self._decoder, self._cross, self._cache


class OrtDecoder:
    """The decoder session bound to the leading rows of the shared buffers."""

    def __init__(
        self,
        session: ort.InferenceSession,
        rows: int,
        cross: dict[str, _Buffer],
        cache: dict[str, _Buffer],
        guesses: NDArray[np.int64] | None,
    ) -> None:
        self._session = session
        self._rows = rows
        self._guesses = guesses
        self._binding = session.io_binding()
        for name, buffer in cross.items():
            self._binding.bind_input(name, *buffer.binding(rows))
        for name, buffer in cache.items():
            self._binding.bind_input(f"past_{name}", *buffer.binding(rows))
            self._binding.bind_output(f"present_{name}", *buffer.binding(rows))

    @property
    def rows(self) -> int:
        """See `backends.base.Decoder.rows`."""
        return self._rows

    @property
    def guesses(self) -> NDArray[np.int64] | None:
        """See `backends.base.Decoder.guesses`."""
        return self._guesses

    def step(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `backends.base.Decoder.step`."""
        next_tokens = np.empty(tokens.shape, np.int64)
        logprobs = np.empty((*tokens.shape, 5), np.float32)
        try:
            self._binding.bind_cpu_input("tokens", np.ascontiguousarray(tokens))
            self._binding.bind_cpu_input("start", np.ascontiguousarray(start))
            _bind_result(self._binding, "next_tokens", next_tokens)
            _bind_result(self._binding, "level_logprobs", logprobs)
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime's exceptions share no narrower base
            raise BackendError(f"the decoder failed on tokens {tokens.shape}: {error}") from error
        if np.isnan(logprobs).any():
            raise BackendError("the decoder's log-probabilities are NaN: export the bundle again")
        return next_tokens, logprobs


def _bind_result(binding: ort.IOBinding, name: str, array: NDArray[np.generic]) -> None:
    """Let ONNX Runtime write an output straight into `array`."""
    binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)


def _open(file: Path, threads: int | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Each session has threads of its own; spinning ones would take the other session's cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors arrive as exceptions; nothing is printed
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no narrower base
        raise BackendError(f"{file} cannot be opened: {error}; export the bundle again") from error


def _check(
    file: Path,
    found: Sequence[ort.NodeArg],
    floats: Mapping[str, tuple[int, ...]],
    kind: CacheType,
    others: tuple[str, ...] = (),
) -> None:
    """Compare one side of a graph with the contract.

    `floats` maps names to their shapes after B, all of type `kind`; of `others` only the names
    count.
    """
    args = {arg.name: arg for arg in found}
    if args.keys() != {*floats, *others}:
        odd = sorted(args.keys() ^ {*floats, *others})
        raise BackendError(f"{file}: {', '.join(odd)} missing or unknown; export the bundle again")
    for name, shape in floats.items():
        arg = args[name]
        fits = len(arg.shape) == len(shape) + 1 and all(
            actual == wanted
            for actual, wanted in zip(arg.shape[1:], shape, strict=True)
            if isinstance(actual, int)
        )
        if arg.type != _TYPES[kind] or not fits:
            raise BackendError(
                f"{file}: {name} is {arg.type} {arg.shape}, the manifest says {_TYPES[kind]} "
                f"with {shape} after the batch; export the bundle again"
            )
