"""Three threads carry batches through preparation, encoder and decoder; each request ends once.

The three stages are rooms with place for one batch each. A worker takes its batch from room to
room and leaves one only when the next is free, so that while one batch is decoded another is
encoded and a third is being prepared, and no more than two are past preparation: the lanes of the
backend. Requests wait as the caller's own arrays; only the two batches in the first two rooms are
held as pixels, in two buffers made once.

A request that cannot meet its deadline is refused at the door, dropped before it is prepared, or
dropped before it is encoded, as soon as the pace of the batches shows it.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DeadlineError, EngineClosedError, EngineForkedError, InputError
from ..observe import Meter, Outcome
from .pace import AT_THE_DOOR, BEFORE_PREPARING, Pace
from .policy import Policy, Situation, Step

_LOG: Final = logging.getLogger(__name__)
_CLOSED: Final = "this engine is closed; load another one"
_FORKED: Final = (
    "this engine was loaded before the process was forked, and its threads did not come along; "
    'load the engine in the child, or start processes by multiprocessing.get_context("spawn")'
)
_LATE: Final = "too many slices wait for a result within the time given; try later or give more"
_WORKERS: Final = 3  # one per room
_BUFFERS: Final = 2  # rooms that need pixels

Item = TypeVar("Item")
Encoded = TypeVar("Encoded")
Made = TypeVar("Made")
Given = TypeVar("Given")
Out = TypeVar("Out")
ItemIn = TypeVar("ItemIn", contravariant=True)


class Ending(Future[Any]):
    """Where a request ends: a result, an error, or cancelled.

    It knows nothing of the request: a future keeps its callbacks for ever, and with them a slice
    would stay until the garbage collector comes round to it.
    """

    expired = False
    """Its caller gave up because of the deadline."""

    def outcome(self) -> Outcome:
        """How it ended."""
        if self.expired:
            return "expired"
        if self.cancelled():
            return "cancelled"
        error = self.exception()
        if error is None:
            return "assessed"
        if isinstance(error, DeadlineError):
            return "expired"
        return "invalid" if isinstance(error, InputError) else "failed"


@dataclass(slots=True, eq=False)
class Request(Generic[Item]):
    """One slice on its way.

    Attributes:
        item: what is to be prepared.
        call: number of the call it belongs to.
        deadline: when its caller stops waiting, in seconds of the monotonic clock.
        arrived: when it got its place.
        future: where it ends.
        prepare: seconds that its preparation took.
        queue: seconds that it waited until it ran.
    """

    item: Item
    call: int
    deadline: float | None
    arrived: float
    future: Ending = field(default_factory=Ending)
    prepare: float = 0.0
    queue: float = 0.0

    def late(self, end: float) -> bool:
        """A result at `end`, in seconds of the clock, is none for its caller."""
        return self.deadline is not None and end >= self.deadline

    def expire(self) -> None:
        """The caller gives up: it waits no longer."""
        self.future.expired = True
        self.future.cancel()

    def refuse(self, error: Exception) -> None:
        """End with an error, unless it was cancelled; only before it runs."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class Stages(Protocol[ItemIn, Encoded, Made]):
    """What the rooms do. One thread prepares, one encodes and one decodes at any time."""

    def prepare(self, item: ItemIn, row: NDArray[np.float32]) -> None:
        """Fill one row of a batch; an error ends this item alone."""
        ...

    def encode(self, pixels: NDArray[np.float32]) -> Encoded:
        """Encode the rows; an error ends the batch."""
        ...

    def decode(self, encoded: Encoded) -> Made:
        """Decode them; an error ends the batch."""
        ...

    def finish(self, requests: Sequence[Request[Any]], made: Made) -> None:
        """Give every request its result, now or later; several threads may be here."""
        ...


class _Batch(Generic[Item]):
    """Requests and their pixels, row by row.

    Attributes:
        began: when the first request was taken.
        expected: when it is expected to have its captions; both in seconds of the clock.
    """

    def __init__(self, pixels: NDArray[np.float32]) -> None:
        self.pixels = pixels
        self.requests: list[Request[Item]] = []
        self.began = self.expected = 0.0

    def start(self, now: float) -> None:
        """Drop who was cancelled or will be late, close the gaps, and mark the rest as running."""
        kept: list[Request[Item]] = []
        for place, request in enumerate(self.requests):
            if not request.future.set_running_or_notify_cancel():
                continue
            if request.late(max(now, self.expected)):
                request.future.set_exception(DeadlineError(_LATE))
                continue
            request.queue = now - request.arrived - request.prepare
            if place != len(kept):
                self.pixels[len(kept)] = self.pixels[place]
            kept.append(request)
        self.requests = kept


class Batcher(Generic[Item, Encoded, Made]):
    """The queue, and the workers that empty it. Every method may be called from any thread."""

    def __init__(
        self,
        stages: Stages[Item, Encoded, Made],
        policy: Policy,
        meter: Meter,
        *,
        row: tuple[int, ...],
        queue: int,
    ) -> None:
        """Start the workers.

        Args:
            stages: what the rooms do.
            policy: when a batch goes.
            meter: where it is counted.
            row: shape of a prepared slice.
            queue: most requests that wait.
        """
        self._stages, self._policy, self._meter = stages, policy, meter
        self._queue = queue
        self._process = os.getpid()
        shape = (policy.max_batch, *row)
        self._spare = [np.zeros(shape, np.float32) for _ in range(_BUFFERS)]
        self._bytes = sum(buffer.nbytes for buffer in self._spare)
        # Reentrant: the garbage collector may call `stop` in the middle of anything.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: dict[Future[Any], Request[Item]] = {}
        self._room: list[Future[None]] = []
        self._pace, self._filled = Pace(policy.max_batch), 0
        self._encoding = self._shared = self._closed = False
        self._filling, self._decoding = threading.Lock(), threading.Lock()
        self._workers = [
            threading.Thread(target=self._work, name=f"iqagpt-batch-{number}", daemon=True)
            for number in range(_WORKERS)
        ]
        for worker in self._workers:
            worker.start()

    @property
    def open(self) -> bool:
        """Requests are accepted, in this process."""
        return not self._closed and os.getpid() == self._process

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    def memory(self) -> int:
        """Bytes of the pixel buffers."""
        return 0 if self._closed else self._bytes

    def offer(self, item: Item, *, call: int, deadline: float | None) -> Request[Item] | None:
        """Put an item into the queue; None if that is full.

        Raises:
            DeadlineError: behind those who are here it cannot be done by the deadline.
            EngineClosedError: after `stop`.
            EngineForkedError: in a fork of the process that started the workers.
        """
        if os.getpid() != self._process:
            raise EngineForkedError(_FORKED)
        request = Request(item, call, deadline, time.monotonic())
        with self._changed:
            if self._closed:
                raise EngineClosedError(_CLOSED)
            if request.late(self._expected(self._filled + len(self._waiting) + 1, AT_THE_DOOR)):
                self._meter.count("refused")
                raise DeadlineError(_LATE)
            if len(self._waiting) >= self._queue:
                return None
            self._waiting[request.future] = request
            self._meter.count("accepted")
            self._changed.notify()
        request.future.add_done_callback(self._ended)
        return request

    def room(self) -> Future[None]:
        """Done as soon as the queue has room, or is closed; ask again then: all who wait do."""
        freed: Future[None] = Future()
        with self._changed:
            if not self._closed and len(self._waiting) >= self._queue:
                self._room.append(freed)
                return freed
        freed.set_result(None)
        return freed

    def stop(self) -> None:
        """Accept nothing more, end what waits, and let the workers end with what they hold."""
        if os.getpid() != self._process:
            return  # the child of a fork: the locks may be held by threads that are not here
        with self._changed:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
            self._changed.notify_all()
        for request in left:
            request.refuse(EngineClosedError(_CLOSED))
        self._free_room()

    def close(self) -> None:
        """`stop`, and wait until what was under way is finished; safe to call twice."""
        self.stop()
        if os.getpid() == self._process:
            for worker in self._workers:
                if worker is not threading.current_thread():
                    worker.join()

    def _expected(self, slices: int, deviations: float) -> float:
        """When so many slices that have not the encoder yet will have their captions."""
        return self._pace.expected(slices, time.monotonic(), deviations)

    def _ended(self, future: Future[Any]) -> None:
        """A request ended, maybe by its caller: its place is free."""
        with self._changed:
            waited = self._waiting.pop(future, None)
        self._meter.count(cast(Ending, future).outcome())
        if waited is not None:  # only its caller's cancellation ends a request that still waits
            future.set_running_or_notify_cancel()
            self._free_room()

    def _free_room(self) -> None:
        with self._changed:
            freed, self._room = self._room, []
        for future in freed:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def _work(self) -> None:
        while (batch := self._fill()) is not None:
            self._carry(batch)

    def _fill(self) -> _Batch[Item] | None:
        """The first room: prepare slices until the batch goes into the encoder; None: the end."""
        with self._filling:
            if not self._spare:
                return None  # closed
            batch = _Batch[Item](self._spare.pop())
            while (request := self._next(batch)) is not None:
                self._free_room()
                self._prepare(batch, request)
            if batch.requests:
                return batch
            self._spare.clear()
            return None

    def _next(self, batch: _Batch[Item]) -> Request[Item] | None:
        """The next request for the batch; None: it has the encoder now, or all is closed."""
        with self._changed:
            while True:
                now, self._filled = time.monotonic(), len(batch.requests)
                step, seconds = self._policy.step(
                    Situation(
                        filled=self._filled,
                        waiting=len(self._waiting),
                        encoder_free=not self._encoding,
                        shared=self._shared and not self._closed,
                        oldest=batch.requests[0].arrived if batch.requests else 0.0,
                        now=now,
                    )
                )
                if step is Step.TAKE:
                    self._filled += 1
                    return self._waiting.pop(next(iter(self._waiting)))
                if step is Step.GO:
                    batch.expected = self._pace.enter(self._filled, batch.began, now)
                    self._encoding, self._filled = True, 0
                    self._shared = len({request.call for request in batch.requests}) > 1
                    return None
                if self._closed and not batch.requests:
                    return None
                self._changed.wait(seconds)

    def _prepare(self, batch: _Batch[Item], request: Request[Item]) -> None:
        if request.future.cancelled():
            request.future.set_running_or_notify_cancel()
            return
        with self._changed:
            company = min(self._filled + len(self._waiting), self._policy.max_batch)
            end = self._expected(company, BEFORE_PREPARING)
        if request.late(end):
            request.refuse(DeadlineError(_LATE))
            return
        begin = time.monotonic()
        if not batch.requests:
            batch.began = begin
        try:
            self._stages.prepare(request.item, batch.pixels[len(batch.requests)])
        except Exception as error:  # noqa: BLE001 (whatever it is, its caller must hear of it)
            request.refuse(error)
            return
        request.prepare = time.monotonic() - begin
        self._meter.time("prepare", request.prepare)
        batch.requests.append(request)

    def _carry(self, batch: _Batch[Item]) -> None:
        """The other rooms; the encoder is this batch's until the decoder is."""
        batch.start(time.monotonic())
        encoded = self._guarded(batch, self._encode, batch) if batch.requests else None
        with self._decoding:
            self._leave_encoder(batch)
            made = None
            if encoded is not None:
                made = self._guarded(batch, self._stages.decode, encoded)
            self._leave_decoder(len(batch.requests) if made is not None else 0)
        if made is not None:
            self._guarded(batch, partial(self._stages.finish, batch.requests), made)

    def _encode(self, batch: _Batch[Item]) -> Encoded:
        self._meter.batch(len(batch.requests))
        for request in batch.requests:
            self._meter.time("queue", request.queue)
        return self._stages.encode(batch.pixels[: len(batch.requests)])

    def _leave_encoder(self, batch: _Batch[Item]) -> None:
        with self._changed:
            self._spare.append(batch.pixels)
            self._encoding = False
            self._changed.notify_all()

    def _leave_decoder(self, captioned: int) -> None:
        with self._changed:
            self._pace.leave(captioned, time.monotonic())

    def _guarded(
        self, batch: _Batch[Item], stage: Callable[[Given], Out], given: Given
    ) -> Out | None:
        """Run a stage; whatever it raises becomes the end of those in the batch not yet ended."""
        try:
            return stage(given)
        except Exception as error:  # noqa: BLE001 (whatever it is, the callers must hear of it)
            _LOG.error("a batch of %d failed: %s", len(batch.requests), type(error).__name__)
            _LOG.debug("traceback", exc_info=True)
            for request in batch.requests:
                if not request.future.done():
                    request.future.set_exception(error)
            return None


_CALLS = itertools.count()


def new_call() -> int:
    """A number for requests that belong together."""
    return next(_CALLS)
