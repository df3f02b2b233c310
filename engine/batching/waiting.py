"""How callers wait for a request: threads and coroutines, with a deadline or without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from ..errors import DeadlineError
from .batcher import Request

T = TypeVar("T")
_LATE: Final = "no result within the time given"


def deadline_after(timeout: float | None) -> float | None:
    """The moment, in seconds of the monotonic clock, that is `timeout` seconds away."""
    return None if timeout is None else time.monotonic() + timeout


def wait(future: Future[T], deadline: float | None, request: Request[Any] | None = None) -> T:
    """Wait in a thread.

    Args:
        future: what to wait for.
        deadline: when to give it up, as `deadline_after` gives it.
        request: whose future it is; it then counts as expired, not as cancelled.

    Raises:
        DeadlineError: the deadline passed; the future is cancelled, unless it runs.
    """
    left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
    try:
        error = future.exception(left)
    except TimeoutError:
        _give_up(future, request)
        raise DeadlineError(_LATE) from None
    if error is not None:
        raise error
    return future.result()


async def within(
    seconds: float | None, work: Awaitable[T], request: Request[Any] | None = None
) -> T:
    """Wait in a coroutine; if that is cancelled, so is the work.

    Raises:
        DeadlineError: it took longer; the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        if request is not None:
            request.expire()
        raise DeadlineError(_LATE)
    finally:
        task.cancel()


def _give_up(future: Future[Any], request: Request[Any] | None) -> None:
    if request is None:
        future.cancel()
    else:
        request.expire()
