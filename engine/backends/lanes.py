"""The bookkeeping every backend shares: which buffers a batch has, and what a graph is bound to.

A backend is two executors, for the encoder and the decoder, over one memory. All else is here:

* a lane holds the cross-attention keys and values, the cache, and small inputs and outputs;
* a batch of B rows uses the leading B rows of each buffer, which lie together in memory;
* the cache is bound as past input and present output at once: TensorScatter writes in place;
* a lane is taken by `encode`, given back by the decoder's `release`, and nothing is allocated
  in between but what the caller gets to keep.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..template import ATTRIBUTES, LEVELS
from .base import LANES, GraphShapes
from .memory import Memory, Spec, Tensor

GUESSES: Final = "draft_levels"
"""The encoder's optional output: a bundle may do without."""


class Executor(Protocol):
    """One opened graph."""

    @property
    def memory(self) -> Memory:
        """Where its tensors lie; a run is part of this memory's order of calls."""
        ...

    @property
    def file(self) -> Path:
        """Where it was read from."""
        ...

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """What it reads."""
        ...

    @property
    def outputs(self) -> Mapping[str, Spec]:
        """What it writes."""
        ...

    @property
    def weights(self) -> int:
        """Bytes of weights, by the size of the files, and of what a run needs besides buffers."""
        ...

    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """Run once; an input and an output may be the same tensor.

        Raises:
            Exception: whatever the runtime raises.
        """
        ...

    def close(self) -> None:
        """Give the runtime's part back; the memory is not freed."""
        ...


def graph_names(shapes: GraphShapes) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes after B of keys and values: "cross", "past" and "present"."""
    source = (shapes.heads, shapes.source_length, shapes.head_dim)
    cached = (shapes.heads, shapes.max_length, shapes.head_dim)
    names = [f"{kind}_{layer}" for layer in range(shapes.layers) for kind in ("key", "value")]
    sizes = {"cross": source, "past": cached, "present": cached}
    return {part: {f"{part}_{name}": size for name in names} for part, size in sizes.items()}


def _check_contract(encoder: Executor, decoder: Executor, shapes: GraphShapes) -> None:
    """Compare both graphs with what the manifest says.

    Raises:
        BackendError: a name, shape or type differs.
    """
    cache, names = np.dtype(shapes.cache), graph_names(shapes)
    int64, float32 = np.dtype(np.int64), np.dtype(np.float32)

    def kept(*parts: str) -> dict[str, Spec]:
        return {n: Spec((None, *size), cache) for part in parts for n, size in names[part].items()}

    pixels = Spec((None, shapes.channels, shapes.size, shapes.size), float32)
    guesses = {GUESSES: Spec((None, len(ATTRIBUTES)), int64)} if GUESSES in encoder.outputs else {}
    tokens, start = Spec((None, None), int64), Spec((None,), int64)
    logprobs = Spec((None, None, len(LEVELS)), float32)
    results = {"next_tokens": tokens, "level_logprobs": logprobs}
    _check(encoder.file, encoder.inputs, {"pixels": pixels})
    _check(encoder.file, encoder.outputs, kept("cross") | guesses)
    _check(
        decoder.file, decoder.inputs, {"tokens": tokens, "start": start, **kept("cross", "past")}
    )
    _check(decoder.file, decoder.outputs, results | kept("present"))


def _check(file: Path, found: Mapping[str, Spec], wanted: Mapping[str, Spec]) -> None:
    """Compare one side of a graph with the contract; an axis that is free on a side fits."""
    if odd := sorted(found.keys() ^ wanted.keys()):
        raise BackendError(f"{file}: {', '.join(odd)} missing or unknown; export the bundle again")
    for name, spec in wanted.items():
        other = found[name]
        sizes = zip(other.shape, spec.shape, strict=False)
        fits = len(other.shape) == len(spec.shape) and all(
            actual == size or actual is None or size is None for actual, size in sizes
        )
        if other.dtype != spec.dtype or not fits:
            raise BackendError(
                f"{file}: {name} is {other.dtype} {other.shape}, the manifest says {spec.dtype} "
                f"{spec.shape}; export the bundle again"
            )


class _Lane:
    """The buffers of one batch."""

    def __init__(self, memory: Memory, shapes: GraphShapes, rows: int, *, guessing: bool) -> None:
        names = graph_names(shapes)
        tokens = rows * shapes.max_length

        def large(part: str) -> dict[str, Tensor]:
            return {
                name: memory.allocate((rows, *size), shapes.cache)
                for name, size in names[part].items()
            }

        self.cross = large("cross")
        self.past = large("past")
        self.tokens = memory.allocate((tokens,), np.int64)
        self.start = memory.allocate((rows,), np.int64)
        self.next_tokens = memory.allocate((tokens,), np.int64)
        self.logprobs = memory.allocate((tokens * len(LEVELS),), np.float32)
        self.guesses = memory.allocate((rows, len(ATTRIBUTES)), np.int64) if guessing else None

    def inputs(self, rows: int) -> dict[str, Tensor]:
        """What the decoder reads besides tokens."""
        return {name: t.rows(rows) for name, t in (self.cross | self.past).items()}

    def presents(self, rows: int) -> dict[str, Tensor]:
        """What the decoder writes besides its results: the very tensors it reads as past."""
        return {name.replace("past", "present", 1): t.rows(rows) for name, t in self.past.items()}

    @property
    def nbytes(self) -> int:
        """Size of all buffers."""
        single = (self.tokens, self.start, self.next_tokens, self.logprobs)
        guesses = () if self.guesses is None else (self.guesses,)
        every = (*self.cross.values(), *self.past.values(), *single, *guesses)
        return sum(tensor.nbytes for tensor in every)


class LaneGraphs:
    """`base.Graphs` over two executors; see the module."""

    def __init__(
        self, encoder: Executor, decoder: Executor, shapes: GraphShapes, *, max_batch: int
    ) -> None:
        """Check both graphs and make all buffers.

        Raises:
            BackendError: a graph contradicts `shapes`, or there is not enough memory.
        """
        _check_contract(encoder, decoder, shapes)
        self._encoder, self.decoder = encoder, decoder
        self._max_batch, self.max_length = max_batch, shapes.max_length
        memory = encoder.memory
        guessing = GUESSES in encoder.outputs
        pixels = (max_batch, shapes.channels, shapes.size, shapes.size)
        on_host = memory.kind == "host"  # the encoder then reads the caller's own array
        self._pixels = memory.allocate((0,) if on_host else pixels, np.float32)
        self._lanes = [_Lane(memory, shapes, max_batch, guessing=guessing) for _ in range(LANES)]
        self.free = list(self._lanes)
        self._encoding, self.decoding = threading.Lock(), threading.Lock()
        self._closed = False

    def encode(self, pixels: NDArray[np.float32]) -> LaneDecoder:
        """See `backends.base.Graphs.encode`."""
        rows = pixels.shape[0]
        if not 1 <= rows <= self._max_batch:
            raise BackendError(f"a batch has 1 to {self._max_batch} rows; got {rows}")
        with self._encoding:
            self.check_open()
            lane = self._take()
            try:
                guesses = self._encode(np.ascontiguousarray(pixels, np.float32), lane)
            except Exception as error:  # runtimes' exceptions share no narrower base
                self.free.append(lane)
                raise BackendError(
                    f"the encoder failed on pixels {pixels.shape}: {error}"
                ) from error
        return LaneDecoder(self, lane, rows, guesses)

    def memory(self) -> dict[str, int]:
        """See `backends.base.Graphs.memory`."""
        held = {"host": 0, "device": 0}
        if not self._closed:
            for executor in (self._encoder, self.decoder):
                held[executor.memory.kind] += executor.weights
            held[self._encoder.memory.kind] += self._pixels.nbytes
            held[self._encoder.memory.kind] += sum(lane.nbytes for lane in self._lanes)
        return held

    def close(self) -> None:
        """See `backends.base.Graphs.close`."""
        with self._encoding, self.decoding:
            if self._closed:
                return
            self._closed = True
            for executor in (self._encoder, self.decoder):
                executor.close()
                executor.memory.free()

    def check_open(self) -> None:
        """See that the buffers are still there.

        Raises:
            BackendError: after `close`.
        """
        if self._closed:
            raise BackendError("these graphs are closed; open the bundle again")

    def _take(self) -> _Lane:
        try:
            return self.free.pop()
        except IndexError:
            raise BackendError(
                f"all {LANES} lanes are taken: release a decoder before encoding another batch"
            ) from None

    def _encode(self, pixels: NDArray[np.float32], lane: _Lane) -> NDArray[np.int64] | None:
        memory, rows = self._encoder.memory, len(pixels)
        outputs = {name: tensor.rows(rows) for name, tensor in lane.cross.items()}
        if lane.guesses is not None:
            outputs[GUESSES] = lane.guesses.rows(rows)
        for tensor in lane.past.values():
            memory.zero(tensor.rows(rows))
        self._encoder.run({"pixels": memory.upload(pixels, self._pixels)}, outputs)
        if lane.guesses is not None:
            return memory.download(outputs[GUESSES])
        memory.synchronize()
        return None


class LaneDecoder:
    """`base.Decoder` over the leading rows of a lane."""

    def __init__(
        self, graphs: LaneGraphs, lane: _Lane, rows: int, guesses: NDArray[np.int64] | None
    ) -> None:
        self._graphs, self._lane = graphs, lane
        self._rows, self._guesses = rows, guesses
        # The lane comes back also where nobody released it.
        self._held = weakref.finalize(self, graphs.free.append, lane)
        self._held.atexit = False

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
        rows, length = tokens.shape
        most = self._graphs.max_length
        if not 1 <= rows <= self._rows or start.shape != (rows,) or start.max() + length > most:
            raise BackendError(
                f"tokens {tokens.shape} from {start.tolist()} on do not fit into {self._rows} rows "
                f"of {most} positions"
            )
        try:
            with self._graphs.decoding:
                self._check_held()
                next_tokens, logprobs = self._step(tokens, start, rows, length)
        except BackendError:
            raise
        except Exception as error:  # runtimes' exceptions share no narrower base
            raise BackendError(f"the decoder failed on tokens {tokens.shape}: {error}") from error
        if np.isnan(logprobs).any():
            raise BackendError("the decoder's log-probabilities are NaN: export the bundle again")
        return next_tokens, logprobs

    def move(self, source: int, target: int) -> None:
        """See `backends.base.Decoder.move`."""
        with self._graphs.decoding:
            self._check_held()
            for buffer in (*self._lane.cross.values(), *self._lane.past.values()):
                self._graphs.decoder.memory.copy(buffer.row(source), buffer.row(target))

    def release(self) -> None:
        """See `backends.base.Decoder.release`."""
        self._held()

    def _step(
        self, tokens: NDArray[np.int64], start: NDArray[np.int64], rows: int, length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        lane, memory = self._lane, self._graphs.decoder.memory
        inputs = lane.inputs(rows)
        tokens = np.ascontiguousarray(tokens, np.int64)
        start = np.ascontiguousarray(start, np.int64)
        inputs["tokens"] = memory.upload(tokens, lane.tokens)
        inputs["start"] = memory.upload(start, lane.start)
        outputs = lane.presents(rows)
        outputs["next_tokens"] = lane.next_tokens.view(rows, length)
        outputs["level_logprobs"] = lane.logprobs.view(rows, length, len(LEVELS))
        self._graphs.decoder.run(inputs, outputs)
        return memory.download(outputs["next_tokens"]), memory.download(outputs["level_logprobs"])

    def _check_held(self) -> None:
        self._graphs.check_open()
        if not self._held.alive:
            raise BackendError("this decoder was released; encode the batch again")
