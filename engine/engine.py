"""Class Engine: puts the parts together; the only module that knows which concrete ones exist."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast, overload

import numpy as np
from numpy.typing import NDArray

from .assessment import Assessment, Report, Score, SeriesReport, Timings
from .bundle.store import Bundle, open_bundle
from .captioner import Caption, Captioner
from .errors import EngineClosedError, InputError, ShapeError
from .loading import open_captioner
from .prepare import prepare
from .reporting.base import Judged
from .reporting.facts import Items
from .reporting.stage import Choice, ReportStage, open_stage
from .scoring import score
from .template import follows_template

if TYPE_CHECKING:
    from .reporting.chat import Chat
    from .reporting.writer import ReporterStats

Slice = NDArray[np.generic]
_CLOSED_MEANWHILE = "this engine was closed meanwhile; load another one"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Captioned:
    """A slice on its way: all but the report. Seconds are its share of its batch."""

    row: Caption
    scores: dict[str, Score]
    prepare: float
    encode: float
    decode: float


class Engine:
    """Assesses CT slices; made by `Engine.load`, given back by `close` or a `with` block.

    Several threads may share one engine: their batches take turns.
    """

    def __init__(
        self,
        bundle: Bundle,
        captioner: Captioner,
        stage: ReportStage,
        device: str,
        max_batch: int,
    ) -> None:
        """Use `Engine.load`."""
        self._bundle = bundle
        self._stage = stage
        self._captioner: Captioner | None = captioner
        self._device = device
        self._max_batch = max_batch
        self._turn = threading.Lock()

    @classmethod
    def load(
        cls,
        bundle: str | Path | None = None,
        *,
        device: str = "cpu",
        threads: int | None = None,
        max_batch: int = 8,
        reporter: Choice = None,
    ) -> Engine:
        """Verify a bundle, open its graphs, and warm up.

        Args:
            bundle: folder of a bundle; None is the default one inside the package.
            device: "cpu".
            threads: threads per graph run; None leaves it to the runtime.
            max_batch: most slices in one run; memory is reserved for it once.
            reporter: who writes ratings and reports: a language model by `ReporterOptions`;
                "chatgpt" or "required" (no template behind it) with all defaults; None: the
                template, without any network package.

        Raises:
            BundleError: the bundle is missing, changed, or of another version.
            BackendUnavailableError: the device or ONNX Runtime is not there.
            BackendError: the graphs cannot be opened or run.
            ReporterSetupError: the reporter's options cannot work (no key, no such model file).
            MissingExtraError: a local model without the extra `local`.
            OfflineError: the network is forbidden and the reporter is not on this machine.
        """
        opened = open_bundle(bundle)
        captioner = open_captioner(opened, device=device, threads=threads, max_batch=max_batch)
        try:
            stage = open_stage(reporter)
        except BaseException:
            captioner.close()
            raise
        return cls(opened, captioner, stage, device, max_batch)

    @property
    def bundle(self) -> Bundle:
        """The opened bundle; its `manifest` says where the scores come from."""
        return self._bundle

    @property
    def device(self) -> str:
        """Where the graphs run."""
        return self._device

    @overload
    def assess(self, array: Slice) -> Assessment | list[Assessment | InputError]: ...

    @overload
    def assess(self, array: Sequence[Slice]) -> list[Assessment | InputError]: ...

    def assess(self, array: Slice | Sequence[Slice]) -> Assessment | list[Assessment | InputError]:
        """Assess one slice, or many.

        Args:
            array: (H, W) Hounsfield units, integer or float; or (N, H, W), or a list of (H, W)
                arrays of any sizes.

        Returns:
            (H, W): its `Assessment`. Otherwise a list in the same order, where a slice that
            cannot be assessed has its `InputError` and the others their `Assessment`.

        Raises:
            InputError: the one slice cannot be assessed, or `array` is neither of these.
            EngineClosedError: after `close`.
            BackendError: a graph failed.
            ReporterError: the reporter failed, and its options require it. Otherwise the template
                writes, and `report.provenance.reason` says why.
        """
        if isinstance(array, (list, tuple)):
            return self._assess_all([np.asarray(item) for item in array])
        values = cast(Slice, np.asarray(array))
        if values.ndim == 2:
            (result,) = self._assess_all([values])
            if isinstance(result, InputError):
                raise result
            return result
        _check_stack(values)
        return self._assess_all(list(values))

    def summarise(self, items: Items) -> SeriesReport:
        """Sum up a series: counts, means, worst slices and a report on the whole.

        Args:
            items: as `assess` returns them for many slices.

        Raises:
            ReporterError: the reporter failed, and its options require it.
        """
        return self._stage.series(items)

    def chat(self, about: Assessment | Items) -> Chat:
        """Start a conversation grounded in one assessment or many.

        Raises:
            ReporterSetupError: the engine was loaded without a reporter.
        """
        return self._stage.chat([about] if isinstance(about, Assessment) else about)

    def resume_chat(self, path: str | Path) -> Chat:
        """Go on with a conversation that `Chat.save` wrote.

        Raises:
            ChatError: the file holds no conversation that this version can read.
            ReporterSetupError: the engine was loaded without a reporter.
        """
        return self._stage.resume_chat(path)

    def reporter_stats(self) -> ReporterStats | None:
        """Calls, cache hits, tokens and cost so far; None when the template writes."""
        return self._stage.stats()

    def close(self) -> None:
        """Give back sessions, buffers and connections; safe to call twice."""
        self._stage.close()
        with self._turn:
            if self._captioner is not None:
                self._captioner.close()
                self._captioner = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _assess_all(self, slices: list[Slice]) -> list[Assessment | InputError]:
        """Caption batch after batch, then report on all at once: fewest requests."""
        if self._captioner is None:
            raise EngineClosedError("this engine is closed; load another one")
        captioned: list[_Captioned | InputError] = []
        for first in range(0, len(slices), self._max_batch):
            captioned += self._caption_batch(slices[first : first + self._max_batch])
        made = iter(self._report([c for c in captioned if not isinstance(c, InputError)]))
        return [item if isinstance(item, InputError) else next(made) for item in captioned]

    def _caption_batch(self, slices: list[Slice]) -> list[_Captioned | InputError]:
        """Prepare each slice, caption those that are sound, put the results back in order."""
        begin = time.perf_counter()
        prepared = [self._prepare(hu) for hu in slices]
        sound = [item for item in prepared if not isinstance(item, InputError)]
        seconds = (time.perf_counter() - begin) / len(slices)
        made = iter(self._caption(sound, seconds) if sound else [])
        return [item if isinstance(item, InputError) else next(made) for item in prepared]

    def _prepare(self, hu: Slice) -> NDArray[np.float32] | InputError:
        try:
            return prepare(hu, self._bundle.manifest.image.spec())
        except InputError as error:
            return error

    def _caption(
        self, pixels: list[NDArray[np.float32]], prepare_seconds: float
    ) -> list[_Captioned]:
        with self._turn:
            if self._captioner is None:
                raise EngineClosedError(_CLOSED_MEANWHILE)
            captions = self._captioner(np.stack(pixels))
        share = 1.0 / len(pixels)
        return [
            _Captioned(
                row=row,
                scores=self._scores(row),
                prepare=prepare_seconds,
                encode=captions.encode * share,
                decode=captions.decode * share,
            )
            for row in captions.rows
        ]

    def _scores(self, row: Caption) -> dict[str, Score]:
        calibration = self._bundle.manifest.calibration
        return {
            name: score(
                probabilities,
                slope=calibration[name].slope,
                intercept=calibration[name].intercept,
            )
            for name, probabilities in row.probabilities.items()
        }

    def _report(self, captioned: list[_Captioned]) -> list[Assessment]:
        if not captioned:
            return []
        begin = time.perf_counter()
        judged = [Judged(caption=item.row.text, scores=item.scores) for item in captioned]
        try:
            reports = self._stage.submit(judged).result()
        except CancelledError:
            raise EngineClosedError(_CLOSED_MEANWHILE) from None
        seconds = (time.perf_counter() - begin) / len(captioned)
        return [
            self._assessment(item, report, seconds)
            for item, report in zip(captioned, reports, strict=True)
        ]

    def _assessment(self, item: _Captioned, report: Report, seconds: float) -> Assessment:
        manifest = self._bundle.manifest
        return Assessment(
            caption=item.row.text,
            scores=item.scores,
            report=report,
            follows_template=follows_template(item.row.text),
            decoder_passes=item.row.passes,
            bundle=f"{manifest.name} {manifest.version}",
            score_origin=manifest.score_origin,
            timings=Timings(
                prepare=item.prepare, encode=item.encode, decode=item.decode, report=seconds
            ),
        )


def _check_stack(values: Slice) -> None:
    """(N, H, W), or the error that says what it looks like instead."""
    if values.ndim == 3 and values.shape[-1] in (3, 4):
        raise ShapeError(
            f"shape {values.shape} looks like a colour picture; CT slices are (H, W) or (N, H, W)"
        )
    if values.ndim != 3 or values.shape[0] == 0:
        raise ShapeError(f"slices are (H, W) or (N, H, W) with N of 1 or more; got {values.shape}")
