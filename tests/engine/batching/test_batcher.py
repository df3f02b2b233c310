"""Every request ends once, whatever happens to it; rooms overlap; order and bounds hold.

The stages here are plain functions on small arrays that can be held up and made to fail, which no
real graph does on demand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.batching.batcher import Batcher, Request
from engine.batching.policy import Policy
from engine.errors import BackendError, DeadlineError, EngineClosedError, ShapeError
from engine.observe import Meter

BAD, BREAKS_ENCODER, BREAKS_DECODER, BREAKS_FINISH = -1.0, -2.0, -3.0, -4.0
LONG = 30.0


class Doubling:
    """Doubles numbers in batches; `hold` keeps the encoder or decoder from going on.

    `takes` is how many seconds each of the two takes for a batch, at least.
    """

    def __init__(self) -> None:
        self.takes = 0.0
        self.prepared: list[float] = []
        self.batches: list[list[float]] = []
        self.hold = {"encode": threading.Event(), "decode": threading.Event()}
        self.entered = {"encode": threading.Semaphore(0), "decode": threading.Semaphore(0)}
        self.lanes = self.most_lanes = 0
        for event in self.hold.values():
            event.set()

    def prepare(self, item: float, row: NDArray[np.float32]) -> None:
        if item == BAD:
            raise ShapeError("bad")
        self.prepared.append(item)
        row[...] = item

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.lanes += 1
        self.most_lanes = max(self.most_lanes, self.lanes)
        self.batches.append(pixels[:, 0].tolist())
        self._pass("encode")
        if BREAKS_ENCODER in pixels:
            self.lanes -= 1
            raise BackendError("encoder")
        return pixels.copy()

    def decode(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        self._pass("decode")
        self.lanes -= 1
        if BREAKS_DECODER in encoded:
            raise BackendError("decoder")
        return 2 * encoded

    def finish(self, requests: Sequence[Request[Any]], made: NDArray[np.float32]) -> None:
        if BREAKS_FINISH * 2 in made:
            raise ZeroDivisionError
        for request, row in zip(requests, made, strict=True):
            request.future.set_result(float(row[0]))

    def _pass(self, room: str) -> None:
        self.entered[room].release()
        assert self.hold[room].wait(LONG)
        if self.takes:
            time.sleep(self.takes)


class Bench:
    """A batcher with its stages and meter."""

    def __init__(self, *, max_batch: int = 3, queue: int = 100, max_wait: float = 0.0) -> None:
        self.stages = Doubling()
        self.meter = Meter(max_batch)
        self.batcher: Batcher[float, Any, Any] = Batcher(
            self.stages,
            Policy(max_batch=max_batch, max_wait=max_wait),
            self.meter,
            row=(2,),
            queue=queue,
        )

    def put(self, item: float, *, call: int = 0, deadline: float | None = None) -> Future[Any]:
        request = self.batcher.offer(item, call=call, deadline=deadline)
        assert request is not None
        return request.future

    def empty_queue(self) -> None:
        """Wait until all are prepared."""
        while self.batcher.waiting:
            time.sleep(0.001)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    for event in made.stages.hold.values():
        event.set()
    made.batcher.close()


def test_the_encoder_is_filled_while_it_works(bench: Bench) -> None:
    bench.stages.hold["encode"].clear()
    first = bench.put(1)
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    rest = [bench.put(n) for n in (2, 3, 4, 5)]
    bench.stages.hold["encode"].set()
    assert [f.result(LONG) for f in (first, *rest)] == [2, 4, 6, 8, 10]
    assert bench.stages.batches == [[1], [2, 3, 4], [5]]


def test_one_batch_encodes_while_another_decodes_and_never_a_third(bench: Bench) -> None:
    bench.stages.hold["decode"].clear()
    futures = [bench.put(1)]
    assert bench.stages.entered["decode"].acquire(timeout=LONG)
    futures.append(bench.put(2))
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    assert bench.stages.entered["encode"].acquire(timeout=LONG), "encodes while 1 is decoded"
    futures += [bench.put(n) for n in (3, 4)]
    assert not bench.stages.entered["encode"].acquire(timeout=0.05), "no lane is free for a third"
    bench.stages.hold["decode"].set()
    assert [f.result(LONG) for f in futures] == [2, 4, 6, 8]
    assert bench.stages.most_lanes == 2


def test_a_bad_item_fails_alone_and_a_broken_stage_fails_its_batch(bench: Bench) -> None:
    bench.stages.hold["encode"].clear()
    first = bench.put(1)
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    items = (2, BAD, 3, 4, BREAKS_ENCODER, 5, 6, BREAKS_DECODER, 7, 8, BREAKS_FINISH, 9, 10)
    futures = [bench.put(item) for item in items]
    bench.stages.hold["encode"].set()
    wait([first, *futures], LONG)
    ends = [f.exception() or f.result() for f in futures]
    assert [type(end) for end in ends] == [
        float, ShapeError, float, float,
        BackendError, BackendError, BackendError,
        BackendError, BackendError, BackendError,
        ZeroDivisionError, ZeroDivisionError, ZeroDivisionError,
    ]  # fmt: skip
    assert bench.put(11).result(LONG) == 22, "and the batcher goes on"


def test_a_full_queue_offers_no_place_and_cancelling_frees_one() -> None:
    bench = Bench(max_batch=1, queue=2)
    bench.stages.hold["encode"].clear()
    running = bench.put(1)
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    prepared = bench.put(2)
    bench.empty_queue()
    waiting = [bench.put(n) for n in (3, 4)]
    assert bench.batcher.offer(5, call=0, deadline=None) is None
    room = bench.batcher.room()
    assert not room.done()
    assert waiting[0].cancel()
    assert room.done(), "freed by the cancellation itself"
    last = bench.put(6)
    assert prepared.cancel(), "prepared, but not yet running"
    assert not running.cancel()
    bench.stages.hold["encode"].set()
    assert [f.result(LONG) for f in (running, waiting[1], last)] == [2, 8, 12]
    assert bench.stages.batches == [[1], [4], [6]]
    bench.batcher.close()


def test_a_gap_that_a_cancelled_request_leaves_is_closed(bench: Bench) -> None:
    bench.stages.hold["encode"].clear()
    first = bench.put(1)
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    futures = [bench.put(n) for n in (2, 3, 4)]
    bench.empty_queue()
    assert futures[0].cancel()
    bench.stages.hold["encode"].set()
    assert [f.result(LONG) for f in (first, *futures[1:])] == [2, 6, 8]


def test_what_is_too_late_is_refused_or_costs_nothing(bench: Bench) -> None:
    with pytest.raises(DeadlineError):
        bench.put(1, deadline=time.monotonic())
    bench.stages.hold["encode"].clear()
    running = bench.put(2)
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    deadline = time.monotonic() + 0.2
    prepared = [bench.put(n, deadline=deadline) for n in (3, 4)] + [bench.put(5)]
    bench.empty_queue()
    waiting = [bench.put(6, deadline=deadline), bench.put(7)]
    while time.monotonic() < deadline:
        time.sleep(0.01)
    bench.stages.hold["encode"].set()
    for future in (*prepared[:2], waiting[0]):
        with pytest.raises(DeadlineError):
            future.result(LONG)
    assert [f.result(LONG) for f in (running, prepared[2], waiting[1])] == [4, 10, 14]
    assert bench.stages.batches == [[2], [5], [7]]
    assert bench.stages.prepared == [2, 3, 4, 5, 7], "6 was dropped before it"
    stats = bench.meter.snapshot(0)
    assert (stats.refused, stats.accepted, stats.expired) == (1, 6, 3)


def test_a_deadline_that_cannot_be_met_is_refused_at_the_door(bench: Bench) -> None:
    """Each slice takes 10 ms or more, as the batches before show, so 20 of them take 0.2 s."""
    bench.stages.takes = 0.03
    wait([bench.put(n) for n in range(12)], LONG)
    bench.stages.hold["encode"].clear()
    lone = bench.put(20, deadline=time.monotonic() + 0.05)
    bench.stages.entered["encode"].acquire(timeout=LONG)
    line = [bench.put(n) for n in range(21, 41)]
    with pytest.raises(DeadlineError):
        bench.put(41, deadline=time.monotonic() + 0.2)
    patient = bench.put(42, deadline=time.monotonic() + LONG)
    bench.stages.hold["encode"].set()
    assert patient.result(LONG) == 84
    assert lone.done(), "nothing was before it, so it was given its chance"
    assert [f.result(LONG) for f in line] == [2 * n for n in range(21, 41)]


def test_under_overload_what_runs_is_in_time() -> None:
    """Twice as many arrive as can be done; without the estimate nearly all that ran was late."""
    bench = Bench(max_batch=4)
    bench.stages.takes = 0.02
    in_time = ran = 0

    def ended(future: Future[Any], deadline: float) -> None:
        nonlocal in_time, ran
        if not future.cancelled() and future.exception() is None:
            ran += 1
            in_time += time.monotonic() < deadline

    begin = time.monotonic()
    for number in range(600):
        time.sleep(max(0.0, begin + number / 400 - time.monotonic()))
        deadline = time.monotonic() + 0.15
        try:
            future = bench.put(number, deadline=deadline)
        except DeadlineError:
            continue
        future.add_done_callback(partial(ended, deadline=deadline))
    bench.batcher.close()
    assert ran > 20
    assert in_time > ran / 2, "about all of them where nothing else runs on the machine"


def test_closing_finishes_what_runs_and_ends_what_waits() -> None:
    bench = Bench(max_batch=1)
    bench.stages.hold["encode"].clear()
    running = bench.put(1)
    assert bench.stages.entered["encode"].acquire(timeout=LONG)
    prepared = bench.put(2)
    bench.empty_queue()
    waiting = bench.put(3)
    closer = threading.Thread(target=bench.batcher.close)
    closer.start()
    with pytest.raises(EngineClosedError):
        waiting.result(LONG)
    bench.stages.hold["encode"].set()
    closer.join(LONG)
    assert not closer.is_alive()
    assert (running.result(LONG), prepared.result(LONG)) == (2, 4)
    with pytest.raises(EngineClosedError):
        bench.put(4)
    assert bench.batcher.room().done(), "whoever waits for room learns of it by asking"
    bench.batcher.close()


def test_a_callback_may_close_the_batcher() -> None:
    bench = Bench()
    closed = threading.Event()

    def close(_: Future[Any]) -> None:
        bench.batcher.close()
        closed.set()

    bench.put(1).add_done_callback(close)
    assert closed.wait(LONG)
    with pytest.raises(EngineClosedError):
        bench.put(2)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1.0, 2.0, 3.0, BAD, BREAKS_ENCODER, BREAKS_DECODER, BREAKS_FINISH]),
            st.sampled_from(["keep", "cancel", "late"]),
        ),
        max_size=40,
    ),
    st.integers(1, 5),
    st.integers(1, 6),
    st.booleans(),
)
def test_every_request_ends_once_and_is_counted_once(
    plan: list[tuple[float, str]], max_batch: int, callers: int, close_early: bool
) -> None:
    bench = Bench(max_batch=max_batch, queue=len(plan) + 1, max_wait=0.001)
    ended: list[Future[Any]] = []

    def call(number: int) -> list[tuple[float, Future[Any]]]:
        mine = []
        for item, fate in plan[number::callers]:
            try:
                soon = time.monotonic() + 0.002 if fate == "late" else None
                future = bench.put(item, call=number, deadline=soon)
            except EngineClosedError:
                break
            except DeadlineError:
                continue
            future.add_done_callback(ended.append)
            if fate == "cancel":
                future.cancel()
            mine.append((item, future))
        return mine

    with ThreadPoolExecutor(callers) as pool:
        made = [pool.submit(call, number) for number in range(callers)]
        if close_early:
            bench.batcher.close()
        pairs = [pair for one in made for pair in one.result()]
        wait([future for _, future in pairs], LONG)
    bench.batcher.close()
    for item, future in pairs:
        assert future.done()
        try:
            assert future.result() == 2 * item
        except (ShapeError, BackendError, ZeroDivisionError, DeadlineError):
            pass
        except (EngineClosedError, CancelledError):
            pass
    assert len(ended) == len(set(ended)) == len(pairs)
    stats = bench.meter.snapshot(bench.batcher.waiting)
    assert stats.accepted == len(pairs)
    assert stats.under_way == 0
    assert stats.waiting == 0
    assert all(len(batch) <= max_batch for batch in bench.stages.batches)
    assert stats.batch_size.total == sum(len(batch) for batch in bench.stages.batches)
