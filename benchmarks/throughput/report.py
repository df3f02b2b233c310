"""The JSON of `benchmarks.throughput`; published as `../schemas/throughput.schema.json`."""

from __future__ import annotations

from typing import Literal

from ..harness.schema import Distribution, Memory, Model, Report


class Load(Model):
    """One load on the engine.

    Attributes:
        clients: of the closed loop; None in an open one.
        offered: slices a second that arrived on average; None in a closed loop.
        seconds: from the first slice that was due to the last result.
        sent, answered: slices; what is missing was shed or failed.
        queue_full, deadline: slices shed with `QueueFullError`, with `DeadlineError` (refused at
            once, dropped in the queue, or late).
        failed: slices that ended with any other error.
        slices_per_second: answered ones.
        goodput: answered within the bound, a second.
        latency: from when a slice was due to its result; answered slices alone.
        queue: time that answered slices waited in the engine.
        batches: size -> batches of that size that ran; more slices than `answered` are work for
            callers who had given up.
        within_bound: p99 of the slices sent is within the bound, where those without an answer
            count as never answered; and n supports a p99.
    """

    loop: Literal["closed", "open"]
    clients: int | None
    offered: float | None
    seconds: float
    sent: int
    answered: int
    queue_full: int
    deadline: int
    failed: int
    slices_per_second: float
    goodput: float
    latency: Distribution | None
    queue: Distribution | None
    batches: dict[str, int]
    within_bound: bool


class MemoryPoint(Model):
    """Resident memory after so many slices, MB of 2^20 bytes."""

    slices: int
    rss_mb: float


class Whole(Model):
    """Many slices in a row, by `Engine.stream`.

    Attributes:
        slices, failed: how many were assessed, and how many were not.
        list_s: listing the folder and ordering its series by the headers; 0 without files.
        decode_s: reading and decoding DICOM, in a thread beside the rest; 0 without files.
        first_result_s, seconds: from the beginning to the first, and to the last result.
        rate: slices a second, a value for each tenth of the slices.
        memory: resident memory, at most a hundred points.
        growth_mb: mean of the last tenth of `memory` less that of its second tenth.
    """

    slices: int
    failed: int
    list_s: float
    decode_s: float
    first_result_s: float
    seconds: float
    slices_per_second: float
    rate: Distribution
    memory: list[MemoryPoint]
    growth_mb: float


class ThroughputReport(Report):
    """Throughput of one bundle on one device.

    Attributes:
        bound_ms: the bound on p99.
        best_within_bound: most slices a second of an open loop within the bound; None if none was.
        loads: "closed 8 clients", "open 40/s", … -> figures.
        study: files from disk (warm in the page cache) to assessments.
        soak: slices from memory.
    """

    schema_id: Literal["iqagpt-throughput-1"] = "iqagpt-throughput-1"
    max_batch: int
    queue: int
    timeout: float
    seed: int
    bound_ms: float
    best_within_bound: float | None
    loads: dict[str, Load]
    study: Whole | None
    soak: Whole | None
    memory: Memory
