"""The template report: always there, needs nothing but the scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..assessment import Provenance, Rating, Report, Score, Suitability
from ..template import ATTRIBUTES, LEVELS, clause

_IMPRESSIONS: Final = (
    "Not interpretable.",
    "Quality is poor: interpretation is unreliable.",
    "Quality is fair: interpretation is limited.",
    "Good diagnostic quality.",
    "Excellent diagnostic quality.",
)
_SUITABILITY: Final[tuple[Suitability, ...]] = (
    "unsuitable",
    "unsuitable",
    "limited",
    "suitable",
    "suitable",
)
_REMEDIES: Final = {
    "noise": "Raise the dose, reconstruct thicker slices or apply denoising.",
    "sharpness": "Reconstruct with a sharper kernel and check for patient motion.",
    "artifacts": (
        "Check the number of views and the detector, apply metal artifact reduction where metal "
        "is in the field, and consider a re-scan."
    ),
    "low_contrast": "Raise the dose or give contrast medium so that subtle lesions stand out.",
}
_NO_REMEDY: Final = "No action needed."
_UNREADABLE: Final = "The caption gives no overall level: have a person judge the slice."
_GOOD: Final = LEVELS.index("good")
LIMITS: Final = (
    "Made from the captioner's description alone: neither the anatomy nor the clinical question is "
    "known, and no person has looked at the slice."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A caption and the captioner's scores for it."""

    caption: str
    scores: Mapping[str, Score]


def template_report(scores: Mapping[str, Score], reason: str | None = None) -> Report:
    """Findings per attribute, impression and suitability by overall level, a remedy for the worst.

    Args:
        scores: attribute -> score; attributes the caption did not judge may be absent.
        reason: why the template writes although another reporter was asked for.

    Returns:
        A report whose recommendation is "No action needed." when every judged attribute is good
        or better.
    """
    levels = {name: LEVELS.index(scores[name].level) for name in ATTRIBUTES if name in scores}
    overall = levels.get("overall")
    findings = {name: clause(name, level) for name, level in levels.items()}
    return Report(
        ratings={
            name: Rating(value=scores[name].value, reason=findings[name]) for name in findings
        },
        findings=findings,
        impression=_UNREADABLE if overall is None else _IMPRESSIONS[overall],
        suitability="unsuitable" if overall is None else _SUITABILITY[overall],
        recommendation=remedy(levels, {name: scores[name].value for name in levels}),
        limits=LIMITS,
        provenance=Provenance(source="template", reason=reason),
    )


def suitability(level: int) -> Suitability:
    """What an overall level, 0…4, means for diagnosis."""
    return _SUITABILITY[level]


def remedy(levels: Mapping[str, int], values: Mapping[str, float]) -> str:
    """The remedy that follows from the worst attribute; the continuous score breaks ties."""
    judged = [name for name in _REMEDIES if name in levels]
    if not judged:
        return "Repeat the assessment."
    worst = min(judged, key=lambda name: (levels[name], values[name]))
    return _NO_REMEDY if levels[worst] >= _GOOD else _REMEDIES[worst]
