"""What every benchmark's JSON is made of; the published schemas in `../schemas` come from here.

`python -m benchmarks.harness.schema` writes them again after a change.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from . import stats

SCHEMAS = Path(__file__).parents[1] / "schemas"


class Model(BaseModel):
    """Frozen; no unknown keys, no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Percentile(Model):
    """A percentile with its distribution-free 95 % interval."""

    value: float
    low: float
    high: float


class Distribution(Model):
    """A measured sample.

    Attributes:
        unit: of all values.
        better: which direction is progress.
        percentiles: p50, p90, p95, p99, each only where n supports it.
        samples: every value in the order of measuring; None in the line on stdout.
    """

    unit: Literal["ms", "slices/s"]
    better: Literal["lower", "higher"]
    n: int
    mean: float
    stdev: float
    least: float
    most: float
    percentiles: dict[str, Percentile]
    samples: list[float] | None = None

    @classmethod
    def of_seconds(cls, seconds: Sequence[float]) -> Self:
        """Times in seconds, kept in ms."""
        return cls._of(np.asarray(seconds, np.float64) * 1000.0, "ms", "lower")

    @classmethod
    def of_rates(cls, rates: Sequence[float]) -> Self:
        """Slices a second."""
        return cls._of(np.asarray(rates, np.float64), "slices/s", "higher")

    @classmethod
    def _of(
        cls,
        values: stats.Floats,
        unit: Literal["ms", "slices/s"],
        better: Literal["lower", "higher"],
    ) -> Self:
        if not len(values):
            raise ValueError("a distribution needs a value")
        found = stats.percentiles(values)
        return cls(
            unit=unit,
            better=better,
            n=len(values),
            mean=float(values.mean()),
            stdev=stats.deviation(values),
            least=float(values.min()),
            most=float(values.max()),
            percentiles={
                name: Percentile(value=value, low=low, high=high)
                for name, (value, low, high) in found.items()
            },
            samples=[round(float(value), 5) for value in values],
        )


class Gpu(Model):
    """A GPU as NVML describes it; clocks in MHz at the time of asking."""

    name: str
    compute_capability: str
    driver: str
    cuda: str
    memory_mb: int
    sm_clock_mhz: int
    max_sm_clock_mhz: int
    memory_clock_mhz: int
    persistence: bool


class Machine(Model):
    """What the figures were measured on.

    Attributes:
        cores: CPUs this process may use.
        flags: of the CPU, those that matrix products care about.
        clock_mhz, max_clock_mhz: of the CPU, as the system says; None where it does not.
        load_average: over 1, 5 and 15 minutes when the run began.
        packages: name -> version, of those installed.
    """

    cpu: str
    cores: int
    flags: list[str]
    clock_mhz: float | None
    max_clock_mhz: float | None
    memory_mb: int
    load_average: tuple[float, float, float]
    system: str
    python: str
    packages: dict[str, str]
    gpus: list[Gpu]


class BundleFacts(Model):
    """Which bundle ran; `sha256` is its manifest's, which names the hash of every file."""

    name: str
    version: str
    precision: str
    family: str
    sha256: str


class Memory(Model):
    """Peak memory of the process, loading included, in MB of 2^20 bytes.

    Attributes:
        peak_rss_mb: resident on the host.
        peak_vram_mb: used on the first GPU by everybody; None without one.
        buffers_bytes: what the engine itself says that it holds, by kind.
    """

    peak_rss_mb: float
    peak_vram_mb: float | None
    buffers_bytes: dict[str, int]


class Report(Model):
    """Head of every report.

    Attributes:
        complete: everything asked for was measured; `failures` says what was not.
        publishable: the stop rule was no weaker than the default one.
    """

    machine: Machine
    bundle: BundleFacts
    device: str
    threads: int | None
    complete: bool
    failures: list[str]
    publishable: bool


def published() -> dict[str, str]:
    """File name -> text of every published schema."""
    from ..latency.report import LatencyReport
    from ..throughput.report import ThroughputReport

    models: dict[str, type[Report]] = {"latency": LatencyReport, "throughput": ThroughputReport}
    return {
        f"{name}.schema.json": json.dumps(model.model_json_schema(), indent=1) + "\n"
        for name, model in models.items()
    }


if __name__ == "__main__":
    for name, text in published().items():
        (SCHEMAS / name).write_text(text)
