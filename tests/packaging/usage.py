"""The library as its users write it: type-checked in strict mode by `test_usage.py`, and run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine import (
    Assessment,
    DeadlineError,
    Engine,
    EngineStats,
    InputError,
    QueueFullError,
    square_pixels,
)


def one(engine: Engine, hu: NDArray[np.int16]) -> float | None:
    """One slice, with every error a caller may want to tell apart."""
    try:
        found = engine.assess(square_pixels(hu, (0.8, 0.8)), timeout=60.0)
    except InputError:
        return None
    except (QueueFullError, DeadlineError):
        return -1.0
    assert isinstance(found, Assessment)
    return found.scores["noise"].value


def many(engine: Engine, slices: Sequence[NDArray[np.float32]]) -> list[str]:
    """A list: errors in their places."""
    return [
        item.caption if isinstance(item, Assessment) else str(item)
        for item in engine.assess(slices)
    ]


async def streamed(engine: Engine, slices: Sequence[NDArray[np.float32]]) -> list[str]:
    """A stream, and a single slice beside it."""
    single = asyncio.create_task(engine.assess_async(slices[0]))
    found = [i.caption async for i in engine.stream(slices) if isinstance(i, Assessment)]
    await single
    return found


def figures(engine: Engine) -> tuple[int, float, int]:
    """Counters, histograms and memory."""
    stats: EngineStats = engine.stats()
    return stats.assessed, stats.batch_size.mean, sum(engine.memory().values())
