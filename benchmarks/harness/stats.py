"""Percentiles that are printed only where the sample supports them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SUPPORT = {"p50": (50, 5), "p90": (90, 30), "p99": (99, 300)}
"""Percentile and the least n it needs."""


def summarise(seconds: Sequence[float]) -> dict[str, Any]:
    """n, mean, standard deviation and the supported percentiles, in milliseconds."""
    values = np.asarray(seconds, float) * 1000.0
    found: dict[str, Any] = {
        "n": len(values),
        "mean_ms": float(values.mean()),
        "stdev_ms": float(values.std(ddof=1)) if len(values) > 1 else 0.0,
    }
    for name, (percent, least) in SUPPORT.items():
        if len(values) >= least:
            found[f"{name}_ms"] = float(np.percentile(values, percent))
    return found
