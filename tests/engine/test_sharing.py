"""One engine, many callers: threads, coroutines and streams share batches and nothing else."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import (
    Assessment,
    DeadlineError,
    Engine,
    EngineClosedError,
    NonFiniteError,
    OptionError,
    QueueFullError,
    ShapeError,
)

Slices = list[NDArray[np.float32]]


@pytest.fixture(scope="module")
def alone(engine: Engine, slices: Slices) -> list[str]:
    """Each slice's caption when nobody else is there."""
    return [_caption(engine.assess(hu)) for hu in slices]


@pytest.fixture(scope="module")
def bad(chest: NDArray[np.float32]) -> NDArray[np.float32]:
    found = chest.copy()
    found[0, 0] = np.nan
    return found


def _caption(found: object) -> str:
    assert isinstance(found, Assessment)
    return found.caption


def test_32_threads_get_the_captions_they_would_get_alone(
    engine: Engine, slices: Slices, alone: list[str]
) -> None:
    start = threading.Barrier(32)

    def call(number: int) -> list[tuple[int, Assessment]]:
        start.wait()
        found = [(n, engine.assess(slices[n])) for n in (number % 5, (number + 2) % 5)]
        return [(n, a) for n, a in found if isinstance(a, Assessment)]

    with ThreadPoolExecutor(32) as pool:
        found = [pair for pairs in pool.map(call, range(32)) for pair in pairs]
    assert len(found) == 64
    assert all(a.caption == alone[n] for n, a in found)
    assert max(a.batch_size for _, a in found) > 1, "callers shared batches"


@pytest.mark.parametrize("max_batch", [1, 3, 5])
def test_any_batch_size_gives_the_same_captions(
    slices: Slices, alone: list[str], max_batch: int
) -> None:
    with Engine.load(max_batch=max_batch) as engine:
        found = engine.assess(slices * 2)
        assert [_caption(a) for a in found] == alone * 2
        assert max(a.batch_size for a in found if isinstance(a, Assessment)) == max_batch


def test_1000_coroutines(slices: Slices, alone: list[str], bad: NDArray[np.float32]) -> None:
    def item(n: int) -> NDArray[np.float32]:
        return bad if n % 10 else slices[n // 10 % 5]  # one in ten is sound: quick

    async def all_of_them() -> list[object]:
        calls = [engine.assess_async(item(n)) for n in range(1000)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with Engine.load(queue=1000) as engine:
        found = asyncio.run(all_of_them())
        stats = engine.stats()
    for n, end in enumerate(found):
        if n % 10:
            assert isinstance(end, NonFiniteError)
        else:
            assert _caption(end) == alone[n // 10 % 5]
    assert (stats.accepted, stats.assessed, stats.invalid) == (1000, 100, 900)
    assert stats.under_way == 0
    assert stats.batch_size.mean > 4


def test_a_full_queue_refuses_single_slices_and_makes_lists_wait(
    slices: Slices, alone: list[str]
) -> None:
    async def flood(engine: Engine) -> list[object]:
        calls = [engine.assess_async(slices[0]) for _ in range(20)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with Engine.load(max_batch=1, queue=2) as engine:
        found = asyncio.run(flood(engine))
        refused = [item for item in found if isinstance(item, QueueFullError)]
        assert len(refused) >= 10
        assert all(isinstance(item, (Assessment, QueueFullError)) for item in found)
        assert engine.stats().refused == len(refused)
        assert [_caption(a) for a in engine.assess(slices)] == alone, "a list waits for room"


def test_lists_of_several_threads_do_not_mix(
    engine: Engine, slices: Slices, alone: list[str], bad: NDArray[np.float32]
) -> None:
    orders = [[(n + k) % 5 for k in range(5)] for n in range(4)]

    def call(order: list[int]) -> list[object]:
        return list(engine.assess([*(slices[n] for n in order), bad]))

    with ThreadPoolExecutor(4) as pool:
        for order, found in zip(orders, pool.map(call, orders), strict=True):
            assert [_caption(a) for a in found[:5]] == [alone[n] for n in order]
            assert isinstance(found[5], NonFiniteError)


def test_coroutines_may_hand_over_many(
    engine: Engine, slices: Slices, alone: list[str], bad: NDArray[np.float32]
) -> None:
    found = asyncio.run(engine.assess_async([slices[0], bad, slices[1]]))
    assert isinstance(found, list)
    assert [_caption(found[0]), _caption(found[2])] == alone[:2]
    assert isinstance(found[1], NonFiniteError)
    with pytest.raises(NonFiniteError):
        asyncio.run(engine.assess_async(bad))


def test_what_is_no_array_fails_alone(engine: Engine, slices: Slices) -> None:
    ragged = [[1, 2], [3]]
    found = engine.assess([slices[0], ragged, "words"])  # type: ignore[list-item]
    assert isinstance(found[0], Assessment)
    assert isinstance(found[1], ShapeError)
    assert not isinstance(found[2], Assessment)


def test_a_stream_keeps_order_and_reads_no_further_than_its_window(
    slices: Slices, alone: list[str], bad: NDArray[np.float32]
) -> None:
    read = 0

    def files() -> Iterator[NDArray[np.float32]]:
        nonlocal read
        for n in range(40):
            read += 1
            yield bad if n == 7 else slices[n % 5]

    async def consume(engine: Engine) -> None:
        place = 0
        async for found in engine.stream(files()):
            assert read <= place + 1 + 2 * 3 + 2, "bounded by the window, plus what is in hand"
            if place == 7:
                assert isinstance(found, NonFiniteError)
            else:
                assert _caption(found) == alone[place % 5]
            place += 1
        assert place == 40

    with Engine.load(max_batch=2) as engine:
        asyncio.run(consume(engine))


def test_a_stream_gives_each_result_before_the_next_slice_comes(
    engine: Engine, slices: Slices, alone: list[str]
) -> None:
    async def consume() -> list[str]:
        taken: asyncio.Queue[str] = asyncio.Queue()

        async def scanner() -> AsyncIterator[NDArray[np.float32]]:
            yield slices[0]
            assert await taken.get() == alone[0], "the first result is out already"
            yield slices[1]

        found = []
        async for item in engine.stream(scanner()):
            found.append(_caption(item))
            taken.put_nowait(found[-1])
        return found

    assert asyncio.run(consume()) == alone[:2]


def test_a_stream_that_is_left_or_fails_leaves_nothing_behind(
    engine: Engine, slices: Slices
) -> None:
    def failing() -> Iterator[NDArray[np.float32]]:
        yield slices[0]
        raise OSError("the disk is gone")

    async def leave() -> None:
        stream = engine.stream(slices * 20)
        await anext(stream)
        await stream.aclose()
        with pytest.raises(OSError, match="disk"):
            async for _ in engine.stream(failing()):
                pass

    asyncio.run(leave())
    assert isinstance(engine.assess(slices[0]), Assessment)
    stats = engine.stats()
    assert (stats.under_way, stats.waiting) == (0, 0)


def test_deadlines(slices: Slices) -> None:
    with Engine.load(max_batch=1) as engine:
        with pytest.raises(DeadlineError):
            engine.assess(slices * 20, timeout=0.01)
        with pytest.raises(TimeoutError):
            asyncio.run(engine.assess_async(slices * 20, timeout=0.01))
        with pytest.raises(DeadlineError):
            engine.assess(slices[0], timeout=0.0)
        with pytest.raises(DeadlineError):
            asyncio.run(engine.assess_async(slices[0], timeout=0.0))
        assert isinstance(engine.assess(slices[0], timeout=60), Assessment)
        stats = engine.stats()
    assert stats.refused >= 2
    assert stats.expired >= 1
    assert stats.accepted == stats.assessed + stats.cancelled + stats.expired


def test_a_flood_with_deadlines_is_mostly_turned_away_before_it_costs_anything(
    slices: Slices,
) -> None:
    """Two hundred callers give as much time as the engine needs for two dozen."""

    async def flood(engine: Engine, seconds: float) -> list[object]:
        calls = [engine.assess_async(slices[n % 5], timeout=seconds) for n in range(200)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    with Engine.load() as engine:
        begin = time.monotonic()
        engine.assess([slices[n % 5] for n in range(48)])
        before, seconds = engine.stats(), (time.monotonic() - begin) / 2
        found = asyncio.run(flood(engine, seconds))
    stats = engine.stats()
    served = sum(isinstance(item, Assessment) for item in found)
    turned_away = sum(isinstance(item, DeadlineError) for item in found)
    assert served + turned_away == 200
    assert stats.refused >= 100, "at once"
    assert stats.batch_size.total - before.batch_size.total < 100
    assert stats.accepted == stats.assessed + stats.expired + stats.cancelled


def test_cancelled_coroutines_free_their_places(slices: Slices) -> None:
    async def cancel_most(engine: Engine) -> None:
        tasks = [asyncio.create_task(engine.assess_async(slices[n % 5])) for n in range(30)]
        await asyncio.sleep(0)
        for task in tasks[:-1]:
            task.cancel()
        await asyncio.gather(*tasks[:-1], return_exceptions=True)
        assert engine.stats().waiting <= 1
        assert isinstance(await tasks[-1], Assessment)

    with Engine.load(max_batch=1, queue=30) as engine:
        asyncio.run(cancel_most(engine))
        assert engine.stats().cancelled >= 20


def test_closing_ends_every_caller(slices: Slices) -> None:
    engine = Engine.load(max_batch=1)
    assert engine.ready
    ends: list[object] = []

    def call() -> None:
        try:
            ends.append(engine.assess(slices * 10))
        except EngineClosedError as error:
            ends.append(error)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    engine.close()
    for caller in callers:
        caller.join()
    assert len(ends) == 8
    assert any(isinstance(end, EngineClosedError) for end in ends)
    assert not engine.ready
    assert set(engine.memory().values()) == {0}


@pytest.mark.parametrize(
    "options", [{"max_batch": 0}, {"queue": 0}, {"threads": 0}, {"max_wait": -1.0}]
)
def test_options_out_of_range_say_so(options: dict[str, int]) -> None:
    with pytest.raises(OptionError, match=next(iter(options))):
        Engine.load(**options)  # type: ignore[arg-type]
