"""What happens to a slice in each of the batcher's rooms: prepare, encode, decode, finish.

`finish` scores the captions and asks for the reports. Slices of single calls and streams are
reported on together, batch by batch; a call with many slices asks for its reports at once, when it
has all captions, so that a language model gets the fewest requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .assessment import Assessment, Report, Score, Timings
from .batching.batcher import Request
from .bundle.manifest import Manifest
from .captioner import Caption, Captioner, Captions, Encoded
from .errors import EngineClosedError, ShapeError
from .observe import Meter
from .prepare import prepare
from .reporting.base import Judged
from .reporting.stage import ReportStage
from .scoring import score

Slice = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Job:
    """A slice, and whether its request ends with its `Assessment` or already `Captioned`."""

    hu: ArrayLike
    report: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Captioned:
    """A slice on its way: all but the report."""

    row: Caption
    scores: dict[str, Score]
    batch_size: int
    queue: float
    prepare: float
    captions: Captions


class SliceStages:
    """The stages for one bundle; see `batching.batcher.Stages`."""

    def __init__(
        self, manifest: Manifest, captioner: Captioner, reports: ReportStage, meter: Meter
    ) -> None:
        self._manifest = manifest
        self._spec, self._template = manifest.image.spec(), manifest.captions
        self._captioner = captioner
        self._reports = reports
        self._meter = meter

    def prepare(self, item: Job, row: NDArray[np.float32]) -> None:
        """Check a slice and write its pixels.

        Raises:
            InputError: it cannot be assessed.
        """
        prepare(_as_array(item.hu), self._spec, row)

    def encode(self, pixels: NDArray[np.float32]) -> Encoded:
        """See `Captioner.encode`."""
        return self._captioner.encode(pixels)

    def decode(self, encoded: Encoded) -> Captions:
        """See `Captioner.decode`."""
        return self._captioner.decode(encoded)

    def finish(self, requests: Sequence[Request[Job]], made: Captions) -> None:
        """Score the captions; end the requests, or ask for their reports first."""
        self._count(made)
        captioned = [
            Captioned(
                row=row,
                scores=self._scores(row),
                batch_size=len(requests),
                queue=request.queue,
                prepare=request.prepare,
                captions=made,
            )
            for request, row in zip(requests, made.rows, strict=True)
        ]
        pairs = list(zip(requests, captioned, strict=True))
        asking = [(request.future, item) for request, item in pairs if request.item.report]
        if asking:
            reported = self.report([item for _, item in asking])
            reported.add_done_callback(_hand_out([future for future, _ in asking]))
        for request, item in pairs:
            if not request.item.report:
                request.future.set_result(item)

    def report(self, captioned: Sequence[Captioned]) -> Future[list[Assessment]]:
        """Assessments in the same order, once the reports are there.

        The future holds a `ReporterError` where the reporter is required and failed, and an
        `EngineClosedError` where the engine was closed meanwhile; cancelling it ends the wait.
        """
        begin = time.perf_counter()
        asked = self._reports.submit(
            [Judged(caption=item.row.text, scores=item.scores) for item in captioned]
        )
        assessed: Future[list[Assessment]] = Future()

        def arrived(reports: Future[list[Report]]) -> None:
            if not assessed.set_running_or_notify_cancel():
                return
            seconds = time.perf_counter() - begin
            self._meter.time("report", seconds)
            try:
                pairs = zip(captioned, reports.result(), strict=True)
                share = seconds / len(captioned)
                assessed.set_result([self._assessment(item, found, share) for item, found in pairs])
            except CancelledError:
                assessed.set_exception(
                    EngineClosedError("this engine was closed meanwhile; load another one")
                )
            except Exception as error:  # noqa: BLE001 (whatever it is, the callers must hear of it)
                assessed.set_exception(error)

        asked.add_done_callback(arrived)
        return assessed

    def _count(self, made: Captions) -> None:
        self._meter.time("encode", made.encode)
        self._meter.time("first_token", made.first_token)
        self._meter.time("decode", made.decode)
        self._meter.count("decoder_passes", sum(row.passes for row in made.rows))
        self._meter.count("draft_accepted", sum(row.accepted for row in made.rows))

    def _scores(self, row: Caption) -> dict[str, Score]:
        calibration = self._manifest.calibration
        return {
            name: score(
                probabilities,
                slope=calibration[name].slope,
                intercept=calibration[name].intercept,
            )
            for name, probabilities in row.probabilities.items()
        }

    def _assessment(self, item: Captioned, report: Report, seconds: float) -> Assessment:
        share = 1.0 / item.batch_size
        return Assessment(
            caption=item.row.text,
            scores=item.scores,
            report=report,
            follows_template=self._template is not None and self._template.follows(item.row.text),
            decoder_passes=item.row.passes,
            draft_accepted=item.row.accepted,
            batch_size=item.batch_size,
            bundle=f"{self._manifest.name} {self._manifest.version}",
            score_origin=self._manifest.score_origin,
            timings=Timings(
                queue=item.queue,
                prepare=item.prepare,
                encode=item.captions.encode * share,
                first_token=item.captions.first_token * share,
                decode=item.captions.decode * share,
                report=seconds,
            ),
        )


def _as_array(item: ArrayLike) -> NDArray[np.generic]:
    """An array of anything that can be one.

    Raises:
        ShapeError: it cannot: rows of unequal length, or not numbers.
    """
    try:
        return np.asarray(item)
    except (ValueError, TypeError) as error:
        raise ShapeError(f"a slice is an array (H, W) of numbers: {error}") from error


def many_slices(array: Slice | Sequence[Slice]) -> Sequence[Slice] | None:
    """The slices of a stack or list; None: `array` is one slice.

    Raises:
        ShapeError: it is neither.
    """
    if isinstance(array, (list, tuple)):
        return array
    values = _as_array(array)
    if values.ndim == 2:
        return None
    if values.ndim == 3 and values.shape[-1] in (3, 4):
        raise ShapeError(
            f"shape {values.shape} looks like a colour picture; CT slices are (H, W) or (N, H, W)"
        )
    if values.ndim != 3 or values.shape[0] == 0:
        raise ShapeError(f"slices are (H, W) or (N, H, W) with N of 1 or more; got {values.shape}")
    return list(values)


def _hand_out(
    futures: Sequence[Future[Assessment]],
) -> Callable[[Future[list[Assessment]]], None]:
    """Each future gets its own of the assessments, or the error of them all."""

    def done(assessed: Future[list[Assessment]]) -> None:
        error = assessed.exception()
        for place, future in enumerate(futures):
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(assessed.result()[place])

    return done
