"""What the engine returns: frozen results that turn into dicts, JSON and readable text."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from .template import ATTRIBUTES, LEVELS, MAX_SCORE, level_of

Source = Literal["template", "chatgpt", "compatible", "local"]
"""Who wrote a report: the template; ChatGPT (OpenAI or Azure); another OpenAI-compatible server; a
model on this machine."""

Suitability = Literal["suitable", "limited", "unsuitable"]
"""Whether a slice or series serves for diagnosis."""


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

    @property
    def words(self) -> str:
        """The level; as "good to excellent" where the score is nearer to another one.

        The level is the most probable word, which the caption carries; the score is the calibrated
        mean over all five. Where the captioner is not sure, the two may differ.
        """
        places = {LEVELS.index(self.level), level_of(self.value)}
        return " to ".join(LEVELS[place] for place in sorted(places))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """A reporter's own score for one attribute, 0 … 4, with its reason in one line."""

    value: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Who wrote a report, and what it took.

    Attributes:
        source: the writer.
        reason: why the template wrote it although another reporter was asked for; else None.
        model: model id as the server answered it; None for the template.
        fingerprint: the server's `system_fingerprint`, if it gave one.
        prompt: version of the prompt, such as "slice.v1"; None for the template.
        cached: nothing was sent: the reply is from the cache; tokens and cost are of back then.
        prompt_tokens, completion_tokens: of the one request that slices of equal caption share.
        cost: of that request, in the currency of the prices given; None if unpriced.
    """

    source: Source
    reason: str | None = None
    model: str | None = None
    fingerprint: str | None = None
    prompt: str | None = None
    cached: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A quality report in words; the same parts whoever wrote it.

    Attributes:
        ratings: attribute -> the reporter's score; the template repeats the captioner's.
        findings: attribute -> one sentence.
        impression: one sentence on the whole.
        suitability: for diagnosis.
        recommendation: what to do: nothing, re-scan, dose, kernel, …
        limits: what this report cannot know.
        provenance: who wrote it.
    """

    ratings: dict[str, Rating]
    findings: dict[str, str]
    impression: str
    suitability: Suitability
    recommendation: str
    limits: str
    provenance: Provenance

    @property
    def source(self) -> Source:
        """Who wrote it."""
        return self.provenance.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Seconds spent on this slice, by stage.

    What a batch does at once counts for a slice by its share: batch time / `batch_size`.

    Attributes:
        queue: waited for its turn and for company; its own time, no share.
        prepare: checks, resampling and windows; its own time, no share.
        encode: its share of the encoder's run.
        first_token: its share of the first decoder pass, which is part of `decode`.
        decode: its share of all decoder passes.
        report: its share of making the reports that were asked for together.
    """

    queue: float
    prepare: float
    encode: float
    first_token: float
    decode: float
    report: float

    @property
    def total(self) -> float:
        """Seconds of work on this slice: all stages but the queue."""
        return self.prepare + self.encode + self.decode + self.report


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """The result for one slice.

    Attributes:
        caption: the captioner's text.
        scores: attribute -> `Score`, in the order of `engine.template.ATTRIBUTES`.
        report: the reporter's ratings and words, made from the caption; `report.provenance` says
            by whom.
        follows_template: False when the caption could not be parsed; scores then rest on the
            level probabilities at the template's slots where those could be found.
        decoder_passes: decoder runs that this caption took.
        draft_accepted: how many of the caption's tokens were drafted and found right.
        batch_size: slices that ran together with this one, itself included.
        bundle: name and version of the bundle that wrote the caption.
        score_origin: what the training scores were: "simulated readers" or "human readers".
        timings: seconds by stage.
    """

    caption: str
    scores: dict[str, Score]
    report: Report
    follows_template: bool
    decoder_passes: int
    draft_accepted: int
    batch_size: int
    bundle: str
    score_origin: str
    timings: Timings

    @property
    def overall(self) -> float:
        """The overall score, 0 … 4."""
        return self.scores["overall"].value

    @property
    def source(self) -> Source:
        """Who wrote ratings and report; caption and scores are always the captioner's."""
        return self.report.provenance.source

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers, as `to_json` writes them."""
        return dataclasses.asdict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """JSON text (UTF-8 safe, no NaN)."""
        return json.dumps(self.to_dict(), indent=indent, ensure_ascii=False, allow_nan=False)

    def __str__(self) -> str:
        rows = [
            f"  {attribute.replace('_', ' '):<13} {score.value:4.2f} / {MAX_SCORE:.0f}  "
            f"{score.words:<17} confidence {score.confidence:.0%}"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesReport:
    """Many slices summed up. Slices are numbered by their place in the list, from 0.

    Attributes:
        slices: how many were handed over.
        assessed: how many of them have an assessment.
        worst: numbers of the worst slices, worst first.
        means: attribute -> mean score of the assessed slices, 0 … 4.
        counts: attribute -> level word -> number of slices.
        report: the summary in words.
    """

    slices: int
    assessed: int
    worst: tuple[int, ...]
    means: dict[str, float]
    counts: dict[str, dict[str, int]]
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers."""
        return dataclasses.asdict(self)


__all__ = [
    "LEVELS",
    "Assessment",
    "Provenance",
    "Rating",
    "Report",
    "Score",
    "SeriesReport",
    "Source",
    "Suitability",
    "Timings",
]
