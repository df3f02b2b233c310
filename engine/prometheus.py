"""An engine's figures for Prometheus (extra `metrics`): read when scraped, never counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from .errors import MissingExtraError
from .observe import OUTCOMES, STAGES, Histogram

try:
    from prometheus_client.core import (
        REGISTRY,
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector, CollectorRegistry
except ImportError as error:
    raise MissingExtraError(
        "Prometheus figures need prometheus_client; run `pip install iqagpt[metrics]`"
    ) from error

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from .engine import Engine

_PREFIX: Final = "iqagpt"


class EngineCollector(Collector):
    """Gives `Engine.stats` and `Engine.memory` to a registry at every scrape."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The figures of this moment."""
        stats = self._engine.stats()
        slices = CounterMetricFamily(
            f"{_PREFIX}_slices", "Slices that ended, by outcome", labels=["outcome"]
        )
        for outcome in OUTCOMES:
            slices.add_metric([outcome], getattr(stats, outcome))
        slices.add_metric(["refused"], stats.refused)
        yield slices
        yield CounterMetricFamily(
            f"{_PREFIX}_decoder_passes", "Decoder passes of all captions", stats.decoder_passes
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_draft_accepted", "Drafted tokens found right", stats.draft_accepted
        )
        yield GaugeMetricFamily(f"{_PREFIX}_waiting", "Slices in the queue", stats.waiting)
        yield GaugeMetricFamily(f"{_PREFIX}_ready", "1: slices are accepted", self._engine.ready)
        memory = GaugeMetricFamily(f"{_PREFIX}_memory_bytes", "Buffers held", labels=["kind"])
        for kind, size in self._engine.memory().items():
            memory.add_metric([kind], size)
        yield memory
        sizes = HistogramMetricFamily(f"{_PREFIX}_batch_size", "Slices of a batch")
        sizes.add_metric([], _buckets(stats.batch_size), stats.batch_size.total)
        yield sizes
        seconds = HistogramMetricFamily(
            f"{_PREFIX}_stage_seconds",
            "Seconds by stage: queue and prepare of a slice, the others of a batch",
            labels=["stage"],
        )
        for stage in STAGES:
            tally: Histogram = getattr(stats, stage)
            seconds.add_metric([stage], _buckets(tally), tally.total)
        yield seconds


def register(engine: Engine, registry: CollectorRegistry = REGISTRY) -> EngineCollector:
    """Let a registry read an engine's figures; `registry.unregister(...)` what this returns.

    Raises:
        MissingExtraError: at import, without the extra `metrics`.
    """
    collector = EngineCollector(engine)
    registry.register(collector)
    return collector


def _buckets(tally: Histogram) -> list[tuple[str, float]]:
    """Upper bound -> values up to it, summed as Prometheus wants it."""
    reached, buckets = 0, []
    for bound, count in zip((*tally.bounds, float("inf")), tally.counts, strict=True):
        reached += count
        buckets.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(reached)))
    return buckets
