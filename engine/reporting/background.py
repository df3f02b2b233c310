"""One event loop on one thread, so that synchronous and asynchronous callers share a client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from ..errors import EngineClosedError

T = TypeVar("T")


class Background:
    """Runs coroutines until closed."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="iqagpt-reporting", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work; its future gives the result or the error, and cancels it.

        Raises:
            EngineClosedError: after `close`.
        """
        if self._loop.is_closed():
            work.close()
            raise EngineClosedError("this engine is closed; load another one")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work; an interrupted wait cancels it."""
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The items of an asynchronous generator, for a caller without a loop."""
        try:
            while (item := self.call(_next(source))) is not None:
                yield item
        finally:
            self.call(_close(source))

    async def aiterate(self, source: AsyncIterator[T]) -> AsyncIterator[T]:
        """The items of an asynchronous generator, for a caller on another loop."""
        try:
            while (item := await asyncio.wrap_future(self.submit(_next(source)))) is not None:
                yield item
        finally:
            await asyncio.shield(asyncio.wrap_future(self.submit(_close(source))))

    def close(self) -> None:
        """Cancel what still runs and end the thread; safe to call twice."""
        if self._loop.is_closed():
            return
        self.submit(_cancel_all()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()


async def _next(source: AsyncIterator[T]) -> T | None:
    return await anext(source, None)


async def _close(source: AsyncIterator[Any]) -> None:
    close = getattr(source, "aclose", None)
    if close is not None:
        await close()


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
    await asyncio.get_running_loop().shutdown_default_executor()
