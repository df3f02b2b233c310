"""What a language model is told about assessments: numbers and captions, as JSON, nothing else.

Slices go by their place in the list, never by file name: a file name can hold a patient's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..assessment import Assessment, Provenance, Rating, Report, SeriesReport
from ..errors import InputError, IqaError
from ..template import ATTRIBUTES, LEVELS, level_of
from .base import LIMITS, remedy, suitability

MAX_CAPTION: Final = 2000
"""Characters of a caption that are sent; the template's are about 330."""
WORST: Final = 5
"""Most slices named as the worst; of a short series a third."""
MAX_LISTED: Final = 60
"""Slices listed one by one in a conversation; beyond it the worst are."""

Items = Sequence[Assessment] | Sequence[Assessment | IqaError] | Sequence[Assessment | InputError]
"""Results for slices in order, as `Engine.assess` gives them."""


def quoted(facts: Mapping[str, Any]) -> str:
    """Facts as one line of JSON in ASCII: text in them cannot end its quotes.

    Angle brackets are escaped as well: "<|im_end|>" and its like end a message for some servers,
    whatever quotes they stand in.
    """
    text = json.dumps(facts, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e")


def series(items: Items) -> SeriesReport:
    """Counts, means, worst slices, and the template's summary of them.

    Args:
        items: as `Engine.assess` gives them for a list; errors count as not assessed.
    """
    found = _assessed(items)
    scores = {
        name: [a.scores[name].value for _, a in found if name in a.scores] for name in ATTRIBUTES
    }
    means = {name: round(float(np.mean(values)), 2) for name, values in scores.items() if values}
    counts = {name: _counts(name, found) for name in means}
    named = min(WORST, max(1, len(found) // 3))
    worst = tuple(place for place, _ in _worst_first(found)[:named])
    return SeriesReport(
        slices=len(items),
        assessed=len(found),
        worst=worst,
        means=means,
        counts=counts,
        report=_series_report(means, counts, worst, len(found), len(items)),
    )


def series_facts(items: Items, summary: SeriesReport) -> dict[str, Any]:
    """What the series prompt is given."""
    by_place = dict(_assessed(items))
    return _figures(summary) | {
        "worst": [_entry(place, by_place[place], scores=False) for place in summary.worst],
    }


def chat_facts(items: Items) -> dict[str, Any]:
    """What a conversation is grounded in: every slice of a short list, the worst of a long one."""
    found = _assessed(items)
    summary = series(items)
    listed = found if len(found) <= MAX_LISTED else sorted(_worst_first(found)[:MAX_LISTED])
    facts = _figures(summary) | {
        "worst": list(summary.worst),
        "listed": [_entry(place, a, scores=True) for place, a in listed],
    }
    report = found[0][1].report if len(found) == 1 else summary.report
    facts["report"] = {
        "impression": report.impression,
        "suitability": report.suitability,
        "recommendation": report.recommendation,
        "limits": report.limits,
    }
    return facts


def _figures(summary: SeriesReport) -> dict[str, Any]:
    """What a prompt on many slices is given in any case."""
    return {
        "slices": summary.slices,
        "assessed": summary.assessed,
        "mean": summary.means,
        "levels": summary.counts,
    }


def _assessed(items: Items) -> list[tuple[int, Assessment]]:
    return [(place, item) for place, item in enumerate(items) if isinstance(item, Assessment)]


def _worst_first(found: list[tuple[int, Assessment]]) -> list[tuple[int, Assessment]]:
    return sorted(found, key=lambda pair: (_overall(pair[1]), pair[0]))


def _overall(assessment: Assessment) -> float:
    """The overall score; a slice without one is a concern, so it sorts first."""
    score = assessment.scores.get("overall")
    return -1.0 if score is None else score.value


def _counts(name: str, found: list[tuple[int, Assessment]]) -> dict[str, int]:
    levels = [a.scores[name].level for _, a in found if name in a.scores]
    return {level: levels.count(level) for level in LEVELS if level in levels}


def _entry(place: int, assessment: Assessment, *, scores: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"slice": place, "text": assessment.caption[:MAX_CAPTION]}
    if scores:
        entry["scores"] = {
            name: {"score": round(score.value, 1), "confidence": round(score.confidence, 2)}
            for name, score in assessment.scores.items()
        }
    elif "overall" in assessment.scores:
        entry["overall"] = round(assessment.scores["overall"].value, 1)
    return entry


def _series_report(
    means: Mapping[str, float],
    counts: Mapping[str, Mapping[str, int]],
    worst: tuple[int, ...],
    assessed: int,
    slices: int,
) -> Report:
    findings = {
        name: f"Mean {means[name]:.1f} of 4: "
        + ", ".join(f"{level} in {count}" for level, count in counts[name].items())
        + "."
        for name in means
    }
    levels = {name: level_of(value) for name, value in means.items()}
    missing = f" {slices - assessed} could not be assessed." if assessed < slices else ""
    return Report(
        ratings={n: Rating(value=means[n], reason=findings[n]) for n in means},
        findings=findings,
        impression=_impression(levels, worst, assessed) + missing,
        suitability=suitability(levels.get("overall", 0)),
        recommendation=remedy(levels, means),
        limits=LIMITS,
        provenance=Provenance(source="template"),
    )


def _impression(levels: Mapping[str, int], worst: tuple[int, ...], assessed: int) -> str:
    if "overall" not in levels:
        return "No overall quality is known."
    plural = "slice" if assessed == 1 else "slices"
    listed = ", ".join(map(str, worst))
    level = LEVELS[levels["overall"]]
    return f"Mean quality of {assessed} {plural} is {level}; worst: slice {listed}."
