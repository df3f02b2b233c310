"""The template report: always there, needs nothing but the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..assessment import Report, Score
from ..template import ATTRIBUTES, LEVELS, clause

_IMPRESSIONS: Final = (
    "Not interpretable.",
    "Quality is poor: interpretation is unreliable.",
    "Quality is fair: interpretation is limited.",
    "Good diagnostic quality.",
    "Excellent diagnostic quality.",
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


def template_report(scores: Mapping[str, Score]) -> Report:
    """Findings per attribute, an impression by overall level, a remedy for the worst attribute.

    Args:
        scores: attribute -> score; attributes the caption did not judge may be absent.

    Returns:
        A report whose recommendation is "No action needed." when every judged attribute is good
        or better.
    """
    levels = {name: LEVELS.index(scores[name].level) for name in ATTRIBUTES if name in scores}
    overall = levels.get("overall")
    return Report(
        findings={name: clause(name, level) for name, level in levels.items()},
        impression=_UNREADABLE if overall is None else _IMPRESSIONS[overall],
        recommendation=_recommendation(levels, scores),
        source="template",
    )


def _recommendation(levels: Mapping[str, int], scores: Mapping[str, Score]) -> str:
    """The remedy that follows from the worst attribute; the continuous score breaks ties."""
    judged = [name for name in _REMEDIES if name in levels]
    if not judged:
        return "Repeat the assessment."
    worst = min(judged, key=lambda name: (levels[name], scores[name].value))
    return _NO_REMEDY if levels[worst] >= _GOOD else _REMEDIES[worst]
