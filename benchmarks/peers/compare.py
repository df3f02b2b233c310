"""Times and tokens of a run -> figures: medians, mismatches, speed-ups with intervals, targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ..harness.stats import deviation, percentiles, ratio
from .contestants import CONTESTANTS, REFERENCE
from .measure import Outcome
from .process import Answer

STAGES: Final[dict[str, Callable[[Answer], float]]] = {
    "encode": lambda a: a.encode,
    "decode": lambda a: a.decode,
    "total": lambda a: a.total,
}
_REDUCED: Final = {c.name for c in CONTESTANTS if c.options.get("precision", "f32") != "f32"}
"""Peers of less than FP32."""
VNNI: Final = ("avx512_vnni", "avx_vnni")


def figures(outcomes: Sequence[Outcome], batch: int) -> dict[str, Any]:
    """One batch size: each contestant's times and mismatches, and its speed-ups.

    Returns:
        name -> {"encode", "decode", "total": {"median", "stdev", "percentiles" with intervals},
        seconds; "n" rounds; "passes" a caption, of those that draft; "peak_rss_mb"; "captions"
        compared with the reference's and "mismatched" among them (None where the reference is
        missing); "speedup": engine variant -> stage -> {"value", "low", "high"}: this contestant's
        time divided by the variant's, with the 95 % bootstrap interval over rounds}.
    """
    ran = {o.contestant.name: o.answers[batch] for o in outcomes if batch in o.answers}
    ours = [o.contestant.name for o in outcomes if o.contestant.ours and batch in o.answers]
    return {
        name: {
            "n": len(answers),
            **{stage: _summary([pick(a) for a in answers]) for stage, pick in STAGES.items()},
            "passes": answers[-1].passes,
            "peak_rss_mb": max(a.peak_rss_mb for a in answers),
            "captions": batch * len(answers),
            "mismatched": _mismatched(answers, ran.get(REFERENCE)),
            "speedup": {mine: _speedups(answers, ran[mine]) for mine in ours if mine != name},
        }
        for name, answers in ran.items()
    }


def _summary(seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "median": float(np.median(seconds)),
        "stdev": deviation(np.asarray(seconds)),
        "percentiles": percentiles(seconds),
    }


def targets(by_batch: dict[int, dict[str, Any]], flags: Sequence[str]) -> list[dict[str, Any]]:
    """What the project promises for BLIP-base on two cores, against what was measured.

    Each is {"target", "batch", "wanted", "value", "low", "high", "most", "verdict"}; `most` is the
    ratio at the engine's roofline, where its row has the "least" times of `limits`. The verdict is
    "reached" (the interval's lower end too), "reached, within noise", "missed", or why it was not
    judged.
    """
    found = []
    for batch, rows in by_batch.items():
        found += [
            _target("FP32 end to end against hf-eager", batch, 3.5, rows, "ours-fp32", "total"),
            _target("FP32 decode stage against hf-eager", batch, 10.0, rows, "ours-fp32", "decode"),
        ]
        if any(flag in flags for flag in VNNI):
            found.append(
                _target("INT8 end to end against hf-eager", batch, 10.0, rows, "ours-int8", "total")
            )
        peers = {name for name in rows if not name.startswith("ours")}
        found += [
            _against_fastest(
                "FP32 against the fastest FP32 peer", batch, rows, "ours-fp32", peers - _REDUCED
            ),
            _against_fastest("INT8 against the fastest peer", batch, rows, "ours-int8", peers),
        ]
    return found


def _against_fastest(
    what: str, batch: int, rows: dict[str, Any], mine: str, peers: set[str]
) -> dict[str, Any]:
    fastest = min(peers, key=lambda name: float(rows[name]["total"]["median"]), default=REFERENCE)
    return _target(f"{what}, {fastest}", batch, 1.5, rows, mine, "total", fastest)


def _target(
    what: str,
    batch: int,
    wanted: float,
    rows: dict[str, Any],
    mine: str,
    stage: str,
    peer: str = REFERENCE,
) -> dict[str, Any]:
    line: dict[str, Any] = {"target": what, "batch": batch, "wanted": wanted}
    try:
        reached = rows[peer]["speedup"][mine][stage]
    except KeyError:
        return {**line, "verdict": f"not judged: {mine} or {peer} did not run"}
    if found := rows[mine].get("least"):
        line["most"] = rows[peer][stage]["median"] / found[stage]
    wrong = rows[mine]["mismatched"] if mine == "ours-fp32" else 0
    if wrong:
        verdict = f"missed: {wrong} captions differ from {REFERENCE}'s"
    elif reached["value"] < wanted:
        verdict = f"missed: {reached['value'] / wanted:.0%} of it"
        if line.get("most", wanted) < wanted:
            verdict += ", out of this machine's reach"
    else:
        verdict = "reached" if reached["low"] >= wanted else "reached, within noise"
    return {**line, **reached, "verdict": verdict}


def _speedups(answers: Sequence[Answer], ours: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """Rounds are paired: both captioned the same slices, one after the other."""
    found = {
        stage: ratio([pick(a) for a in answers], [pick(b) for b in ours], paired=True)
        for stage, pick in STAGES.items()
    }
    return {s: dict(zip(("value", "low", "high"), line, strict=True)) for s, line in found.items()}


def _mismatched(answers: Sequence[Answer], reference: Sequence[Answer] | None) -> int | None:
    """Captions that are not, token for token, the reference's of the same round."""
    if reference is None:
        return None
    return sum(
        mine != right
        for a, b in zip(answers, reference, strict=True)
        for mine, right in zip(a.tokens, b.tokens, strict=True)
    )
