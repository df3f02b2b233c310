"""The JSON of `benchmarks.latency`; published as `../schemas/latency.schema.json`."""

from __future__ import annotations

from typing import Literal

from ..harness.schema import Distribution, Memory, Model, Report

ScenarioName = Literal["SingleStream", "MultiStream", "Offline"]


class Stages(Model):
    """Time of each stage, a value a slice.

    A slice's time in a stage that a batch goes through at once is its share: batch time / batch
    size.

    Attributes:
        queue: waiting for its turn and for company.
        first_token: the first decoder pass; part of `decode`. It checks the whole drafted caption,
            so it usually settles most tokens.
        decode: all decoder passes.
        per_token: `decode` / tokens of the caption.
        time_to_first_token: queue, prepare, encode and first_token.
    """

    queue: Distribution
    prepare: Distribution
    encode: Distribution
    first_token: Distribution
    per_token: Distribution
    decode: Distribution
    report: Distribution
    time_to_first_token: Distribution


class Scenario(Model):
    """One scenario at one batch size.

    Attributes:
        query: end to end, from issuing a query to its last result. Offline is one query; there it
            is the time between the results of a batch and the next batch's.
        rate: slices a second, a value for each tenth of the slices.
        slices_per_second: over the whole scenario.
        decoder_passes, draft_accepted, tokens: mean for a caption.
        mismatches: captions other than the same slice's when it was assessed alone.
    """

    scenario: ScenarioName
    batch: int
    slices: int
    query: Distribution
    rate: Distribution
    slices_per_second: float
    stages: Stages
    decoder_passes: float
    draft_accepted: float
    tokens: float
    mismatches: int


class LatencyReport(Report):
    """Latency of one bundle on one device.

    Attributes:
        sgemm_gflops: this machine's float32 matrix product, as NumPy's BLAS reaches it.
        warmup, iterations, seconds: the stop rule of every scenario.
        first_assessment_s: from the start of a process to its first result, median of three.
        results: "SingleStream 1", "MultiStream 8", … -> figures.
    """

    schema_id: Literal["iqagpt-latency-2"] = "iqagpt-latency-2"
    sgemm_gflops: float
    warmup: int
    iterations: int
    seconds: float
    first_assessment_s: float | None
    results: dict[str, Scenario]
    memory: Memory
