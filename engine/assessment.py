"""What the engine returns: frozen results that turn into dicts, JSON and readable text."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from .template import ATTRIBUTES, LEVELS, MAX_SCORE

Source = Literal["captioner", "template", "chatgpt", "local"]
"""Where a text or a score was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One attribute's judgement.

    Attributes:
        value: continuous score, 0 (bad) … 4 (excellent).
        level: the level word that the caption carries.
        confidence: 0 … 1, one minus the normalised entropy of `probabilities`.
        probabilities: probability of each level word, bad … excellent; sums to 1.
    """

    value: float
    level: str
    confidence: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A quality report in words, and who wrote it."""

    findings: dict[str, str]
    impression: str
    recommendation: str
    source: Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Wall-clock seconds spent on this slice's batch, by stage (batch time / batch size)."""

    prepare: float
    encode: float
    decode: float
    report: float

    @property
    def total(self) -> float:
        """Sum of all stages in seconds."""
        return self.prepare + self.encode + self.decode + self.report


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The result for one slice.

    Attributes:
        caption: the captioner's text.
        scores: attribute -> `Score`, in the order of `engine.template.ATTRIBUTES`.
        report: the report made from the caption.
        follows_template: False when the caption could not be parsed; scores then rest on the
            level probabilities at the template's slots where those could be found.
        decoder_passes: decoder runs that this caption took.
        bundle: name and version of the bundle that wrote the caption.
        score_origin: what the training scores were: "simulated readers" or "human readers".
        timings: seconds by stage.
    """

    caption: str
    scores: dict[str, Score]
    report: Report
    follows_template: bool
    decoder_passes: int
    bundle: str
    score_origin: str
    timings: Timings

    @property
    def overall(self) -> float:
        """The overall score, 0 … 4."""
        return self.scores["overall"].value

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, as `to_json` writes them."""
        return dataclasses.asdict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """JSON text (UTF-8 safe, no NaN)."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        rows = [
            f"  {attribute.replace('_', ' '):<13} {score.value:4.2f} / {MAX_SCORE:.0f}  "
            f"{score.level:<9} confidence {score.confidence:.0%}"
            for attribute in ATTRIBUTES
            if (score := self.scores.get(attribute)) is not None
        ]
        return "\n".join(
            [
                self.caption,
                *rows,
                f"  {self.report.impression} {self.report.recommendation}",
                f"  (scores learned from {self.score_origin}; report by {self.report.source})",
            ]
        )


__all__ = ["LEVELS", "Assessment", "Report", "Score", "Source", "Timings"]
