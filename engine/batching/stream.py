"""Results in order for any number of items, of which only a window is under way at a time."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
    Sequence,
)
from concurrent.futures import Future
from typing import Any, Final, TypeVar, cast

import numpy as np

from ..errors import InputError
from .batcher import Batcher, Request, new_call

Item = TypeVar("Item")
Job = TypeVar("Job")
_LAST: Final = object()


async def in_order(
    batcher: Batcher[Job, Any, Any],
    items: Iterable[Item] | AsyncIterable[Item],
    job: Callable[[Item], Job],
    window: int,
    deadline: float | None = None,
) -> AsyncGenerator[Any, None]:
    """Each item's result, or its `InputError`, as soon as it and those before it are there.

    Args:
        batcher: where they go.
        items: read no further ahead than the window; in a thread, unless they are asynchronous or
            a sequence.
        job: item -> what the batcher takes.
        window: most items under way.
        deadline: of each of them, in seconds of the monotonic clock.

    Raises:
        Exception: any other error of an item, and whatever `items` raises. What is under way is
            cancelled then, and also when the generator is closed.
    """
    line: asyncio.Queue[Request[Job] | _End] = asyncio.Queue(window)
    under_way: set[Future[Any]] = set()
    jobs = (job(item) async for item in _each(items))
    feeder = asyncio.create_task(_feed(batcher, jobs, line, under_way, deadline))
    try:
        while not isinstance(request := await line.get(), _End):
            try:
                yield await asyncio.wrap_future(request.future)
            except InputError as error:
                yield error
            under_way.discard(request.future)
        if request.error is not None:
            raise request.error
    finally:
        feeder.cancel()
        for future in under_way:
            future.cancel()


class _End:
    """The end of the line, and the error that ended it."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error


async def _feed(
    batcher: Batcher[Job, Any, Any],
    jobs: AsyncIterator[Job],
    line: asyncio.Queue[Request[Job] | _End],
    under_way: set[Future[Any]],
    deadline: float | None,
) -> None:
    """Hand jobs over in order, as far as the line and the queue have room."""
    call = new_call()
    try:
        async for job in jobs:
            while (request := batcher.offer(job, call=call, deadline=deadline)) is None:
                await asyncio.wrap_future(batcher.room())
            under_way.add(request.future)
            await line.put(request)
    except Exception as error:  # noqa: BLE001 (whatever it is, it belongs to the consumer)
        await line.put(_End(error))
    else:
        await line.put(_End(None))


async def _each(items: Iterable[Item] | AsyncIterable[Item]) -> AsyncIterator[Item]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    elif isinstance(items, (Sequence, np.ndarray)):
        for item in items:
            yield item
    else:
        iterator = iter(items)
        while (found := await asyncio.to_thread(next, iterator, _LAST)) is not _LAST:
            yield cast(Item, found)
