"""Class Engine: the public door. Puts the parts together and waits for results.

Many threads and coroutines may share one engine: their slices meet in the batcher.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast, overload

from .assessment import Assessment, SeriesReport
from .batching.batcher import Batcher, Request, new_call
from .batching.policy import Policy
from .batching.stream import in_order
from .batching.waiting import deadline_after, wait, within
from .bundle.store import Bundle, open_bundle
from .captioner import Captioner, Captions, Encoded
from .errors import InputError, OptionError, QueueFullError
from .loading import open_captioner
from .observe import EngineStats, Meter
from .reporting.facts import Items
from .reporting.stage import Choice, ReportStage, open_stage
from .stages import Captioned, Job, Slice, SliceStages, many_slices

if TYPE_CHECKING:
    from .reporting.chat import Chat
    from .reporting.writer import ReporterStats


_LOG: Final = logging.getLogger(__name__)
_WINDOW: Final = 3
"""Batches of one call that are in the engine at a time: one in each room."""
_OPEN: Final[weakref.WeakSet[Engine]] = weakref.WeakSet()


class Engine:
    """Assesses CT slices; made by `Engine.load`, given back by `close` or a `with` block.

    Every method may be called from any thread and any event loop. Arrays handed over must not
    change until their result is there.
    """

    def __init__(
        self,
        bundle: Bundle,
        captioner: Captioner,
        reports: ReportStage,
        *,
        device: str,
        policy: Policy,
        queue: int,
    ) -> None:
        """Use `Engine.load`."""
        self._bundle, self._captioner, self._reports = bundle, captioner, reports
        self._device, self._process = device, os.getpid()
        self._meter = Meter(policy.max_batch)
        self._stages = SliceStages(bundle.manifest, captioner, reports, self._meter)
        image = bundle.manifest.image
        self._batcher: Batcher[Job, Encoded, Captions] = Batcher(
            self._stages,
            policy,
            self._meter,
            row=(len(image.windows), image.size, image.size),
            queue=queue,
        )
        self._window = _WINDOW * policy.max_batch
        self._queue = queue
        # Dropped without `close`: the workers end, and what they hold goes with them.
        weakref.finalize(self, self._batcher.stop).atexit = False
        _OPEN.add(self)

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        device: str = "cpu",
        threads: int | None = None,
        max_batch: int = 8,
        max_wait: float = 0.002,
        queue: int = 256,
        reporter: Choice = None,
    ) -> Engine:
        """Verify a bundle, open its graphs, and warm up; the engine is ready when this returns.

        Args:
            bundle: folder of a bundle; None is the default one inside the package.
            device: where the graphs run, such as "cpu" or "cuda"; see `engine/README.md`. Never
                another one than asked for.
            threads: threads per graph run on the CPU; None leaves it to the runtime.
            max_batch: most slices in one run; memory is reserved for it once.
            max_wait: most seconds that a slice waits for others to run with; a caller who is
                alone is never kept waiting.
            queue: most slices that wait; a slice more gets `QueueFullError`. Calls with many
                slices and streams wait for room instead.
            reporter: who writes ratings and reports: a language model by `ReporterOptions`;
                "chatgpt" or "required" (no template behind it) with all defaults; None: the
                template, without any network package.

        Raises:
            OptionError: `max_batch`, `max_wait`, `threads` or `queue` is out of range.
            BundleError: the bundle is missing, changed, or of another version.
            BackendUnavailableError: the device or its runtime is not there.
            BackendError: the graphs cannot be opened or run.
            ReporterSetupError: the reporter's options cannot work (no key, no such model file).
            MissingExtraError: a local model without the extra `local`.
            OfflineError: the network is forbidden and the reporter is not on this machine.
        """
        _check_options(max_batch=max_batch, queue=queue, threads=threads, max_wait=max_wait)
        begin = time.perf_counter()
        opened = open_bundle(bundle)
        captioner = open_captioner(opened, device=device, threads=threads, max_batch=max_batch)
        try:
            reports = open_stage(reporter)
        except BaseException:
            captioner.close()
            raise
        policy = Policy(max_batch=max_batch, max_wait=max_wait)
        engine = cls(opened, captioner, reports, device=device, policy=policy, queue=queue)
        _LOG.info(
            "loaded bundle %s %s on %s in %.2f s",
            opened.manifest.name,
            opened.manifest.version,
            device,
            time.perf_counter() - begin,
        )
        return engine

    @property
    def bundle(self) -> Bundle:
        """The opened bundle; its `manifest` says where the scores come from."""
        return self._bundle

    @property
    def device(self) -> str:
        """Where the graphs run."""
        return self._device

    @property
    def ready(self) -> bool:
        """Slices are accepted: warmed up, not closed, and not in a fork of its process."""
        return self._batcher.open

    @overload
    def assess(
        self, array: Slice, *, timeout: float | None = None
    ) -> Assessment | list[Assessment | InputError]: ...

    @overload
    def assess(
        self, array: Sequence[Slice], *, timeout: float | None = None
    ) -> list[Assessment | InputError]: ...

    def assess(
        self, array: Slice | Sequence[Slice], *, timeout: float | None = None
    ) -> Assessment | list[Assessment | InputError]:
        """Assess one slice, or many.

        Args:
            array: (H, W) Hounsfield units, integer or float; or (N, H, W), or a list of (H, W)
                arrays of any sizes.
            timeout: seconds until `DeadlineError`, for the whole call; None: no limit.

        Returns:
            (H, W): its `Assessment`. Otherwise a list in the same order, where a slice that
            cannot be assessed has its `InputError` and the others their `Assessment`.

        Raises:
            InputError: the one slice cannot be assessed, or `array` is neither of these.
            QueueFullError: one slice, and the queue is full. Many slices wait for room.
            DeadlineError: no result within `timeout`; at once where the slices before it leave no
                hope of one.
            EngineClosedError: after `close`.
            EngineForkedError: in a fork of the process that loaded the engine.
            BackendError: a graph failed.
            ReporterError: the reporter failed, and its options require it. Otherwise the template
                writes, and `report.provenance.reason` says why.
        """
        deadline = deadline_after(timeout)
        many = many_slices(array)
        if many is not None:
            return self._assess_all(many, deadline)
        request = self._submit(_reported(cast(Slice, array)), new_call(), deadline)
        try:
            return cast(Assessment, wait(request.future, deadline, request))
        finally:
            request.future.cancel()

    async def assess_async(  # the deadline covers a place in the queue, which must count it
        self,
        array: Slice | Sequence[Slice],
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Assessment | list[Assessment | InputError]:
        """`assess` for coroutines: the event loop is never blocked.

        Cancelling frees the slice's place at once, unless it is running in a batch already; its
        result is then dropped.

        Args, returns and raises as `assess`.
        """
        many = many_slices(array)
        if many is not None:
            return await within(timeout, self._collect(many, deadline_after(timeout)))
        request = self._submit(_reported(cast(Slice, array)), new_call(), deadline_after(timeout))
        return cast(Assessment, await within(timeout, asyncio.wrap_future(request.future), request))

    async def stream(
        self, slices: Iterable[Slice] | AsyncIterable[Slice]
    ) -> AsyncGenerator[Assessment | InputError, None]:
        """Assess any number of slices in bounded memory, results in order as they come.

        At most three batches are under way: `slices` is read as fast as results are taken.

        Args:
            slices: (H, W) arrays. What is neither asynchronous nor a sequence, such as a generator
                that reads files, is read in a thread, one slice at a time.

        Yields:
            An `Assessment` for each slice, or the `InputError` of one that cannot be assessed.

        Raises:
            EngineClosedError, EngineForkedError, BackendError, ReporterError: as `assess`; and
                whatever `slices` raises. Slices under way are cancelled then, and also when the
                generator is closed.
        """
        results = in_order(self._batcher, slices, _reported, self._window)
        async with aclosing(results):
            async for result in results:
                yield result

    def summarise(self, items: Items) -> SeriesReport:
        """Sum up a series: counts, means, worst slices and a report on the whole.

        Args:
            items: as `assess` returns them for many slices.

        Raises:
            ReporterError: the reporter failed, and its options require it.
        """
        return self._reports.series(items)

    def chat(self, about: Assessment | Items) -> Chat:
        """Start a conversation grounded in one assessment or many.

        Raises:
            ReporterSetupError: the engine was loaded without a reporter.
        """
        return self._reports.chat([about] if isinstance(about, Assessment) else about)

    def resume_chat(self, path: str | Path) -> Chat:
        """Go on with a conversation that `Chat.save` wrote.

        Raises:
            ChatError: the file holds no conversation that this version can read.
            ReporterSetupError: the engine was loaded without a reporter.
        """
        return self._reports.resume_chat(path)

    def stats(self) -> EngineStats:
        """Counters and histograms since loading."""
        return self._meter.snapshot(self._batcher.waiting)

    def reporter_stats(self) -> ReporterStats | None:
        """Calls, cache hits, tokens and cost so far; None when the template writes."""
        return self._reports.stats()

    def memory(self) -> dict[str, int]:
        """Bytes held in buffers, all of them made by `load`; 0 after `close`.

        "host" and "device": caches and results of the graphs, where they lie; "pixels": prepared
        slices, on the host. Weights and the runtime's own arenas come on top.
        """
        graphs = self._captioner.memory() if self._batcher.open else {}
        return {"host": 0, "device": 0} | graphs | {"pixels": self._batcher.memory()}

    def close(self) -> None:
        """Finish what runs, end what waits, give back sessions, buffers and connections.

        Callers still waiting in the queue, or for a language model, get `EngineClosedError`. Safe
        to call twice. In a fork of the process that loaded the engine it does nothing.
        """
        if os.getpid() != self._process:
            return
        self._batcher.close()
        self._reports.close()
        self._captioner.close()
        if self in _OPEN:
            _OPEN.discard(self)
            _LOG.info("closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _submit(self, job: Job, call: int, deadline: float | None) -> Request[Job]:
        request = self._batcher.offer(job, call=call, deadline=deadline)
        if request is None:
            self._meter.count("refused")
            raise QueueFullError(
                f"{self._queue} slices wait already; try again later, or load the engine with a "
                "longer queue"
            )
        return request

    def _assess_all(
        self, slices: Sequence[Slice], deadline: float | None
    ) -> list[Assessment | InputError]:
        """Caption all, then report on all at once: fewest requests."""
        call = new_call()
        captioned: list[Captioned | InputError] = []
        window: deque[Request[Job]] = deque()
        try:
            for item in slices:
                if len(window) == self._window:
                    captioned.append(_captioned(window.popleft(), deadline))
                window.append(self._placed(Job(item, report=False), call, deadline))
            while window:
                captioned.append(_captioned(window.popleft(), deadline))
        finally:
            for request in window:
                request.future.cancel()
        sound = [item for item in captioned if isinstance(item, Captioned)]
        reported = self._stages.report(sound) if sound else None
        made = wait(reported, deadline) if reported else []
        assessed = iter(made)
        return [item if isinstance(item, InputError) else next(assessed) for item in captioned]

    def _placed(self, job: Job, call: int, deadline: float | None) -> Request[Job]:
        """A place in the queue, waited for."""
        while (request := self._batcher.offer(job, call=call, deadline=deadline)) is None:
            wait(self._batcher.room(), deadline)
        return request

    async def _collect(
        self, slices: Sequence[Slice], deadline: float | None
    ) -> list[Assessment | InputError]:
        results = in_order(self._batcher, slices, _reported, self._window, deadline)
        async with aclosing(results):
            return [item async for item in results]


def _close_all() -> None:
    """Workers must not be in the runtime's code while the interpreter is taken down."""
    for engine in list(_OPEN):
        engine.close()


atexit.register(_close_all)


def _check_options(*, max_batch: int, queue: int, threads: int | None, max_wait: float) -> None:
    if max_batch < 1 or queue < 1 or (threads is not None and threads < 1):
        raise OptionError(
            f"max_batch ({max_batch}), queue ({queue}) and threads ({threads}) must be at least 1; "
            "threads=None leaves it to the runtime"
        )
    if not 0.0 <= max_wait < float("inf"):
        raise OptionError(f"max_wait is in seconds, 0 or more; got {max_wait}")


def _reported(item: Slice) -> Job:
    return Job(item, report=True)


def _captioned(request: Request[Job], deadline: float | None) -> Captioned | InputError:
    try:
        return cast(Captioned, wait(request.future, deadline, request))
    except InputError as error:
        return error
