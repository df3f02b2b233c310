"""The roofline: the least time a run can take, here and (a projection) on named GPUs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .ceilings import Ceilings
from .costs import Cost

_FIGURES: Final = Path(__file__).parent / "gpus.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """A machine's limits: operations a second in both kinds of arithmetic, bytes a second.

    Attributes:
        traffic: by how much the graphs' bytes shrink there (FP16 weights: one half).
    """

    float_rate: float
    int8_rate: float
    bandwidth: float
    traffic: float = 1.0

    def bound(self, cost: Cost) -> tuple[float, str]:
        """Least seconds, and what sets them: "arithmetic" or "memory"."""
        arithmetic = cost.float_ops / self.float_rate + cost.int8_ops / self.int8_rate
        memory = self.traffic * cost.least_bytes / self.bandwidth
        return max(arithmetic, memory), "arithmetic" if arithmetic > memory else "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU on paper; figures and source as in `gpus.json`."""

    name: str
    kind: str
    roof: Roof
    source: str


def here(ceilings: Ceilings) -> Roof:
    """The roof of this machine, as measured."""
    return Roof(
        float_rate=ceilings.sgemm,
        int8_rate=ceilings.int8_gemm,
        bandwidth=max(ceilings.read, ceilings.copy),
    )


def gpus(precision: str) -> list[Gpu]:
    """The named GPUs, for a bundle's FP16 export (FP32 graphs halve) or its INT8 one."""
    raw: dict[str, Any] = json.loads(_FIGURES.read_text())
    return [
        Gpu(
            name=line["name"],
            kind=line["class"],
            roof=Roof(
                float_rate=1e12 * line["fp16_tflops"],
                int8_rate=1e12 * line["int8_tops"],
                bandwidth=1e9 * line["memory_gbs"],
                traffic=0.5 if precision == "fp32" else 1.0,
            ),
            source=f"{line['source']}; {line['derived']}",
        )
        for line in raw["gpus"]
    ]
