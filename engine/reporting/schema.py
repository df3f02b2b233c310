"""Replies of a language model: pydantic models -> JSON schema for the server -> `Report`.

The server is held to the schema by structured output; what comes back is checked again all the
same, because not every server keeps its promise.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from ..assessment import Provenance, Rating, Report
from ..errors import ReplyError
from ..template import ATTRIBUTES

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def plain(text: Any) -> Any:
    """Text without control characters: replies are shown in terminals and pages."""
    return _CONTROL.sub(" ", text).strip() if isinstance(text, str) else text


Line = Annotated[str, BeforeValidator(plain), Field(min_length=1, max_length=400)]


class _Part(BaseModel):
    """Frozen, no unknown keys, no NaN, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


class RatingPart(_Part):
    """One attribute's score: the reason first, so that the score follows from it."""

    reason: Line
    score: Annotated[float, Field(ge=0, le=4)]


class RatingsPart(_Part):
    """Scores of all attributes, 0 bad … 4 excellent."""

    noise: RatingPart
    sharpness: RatingPart
    artifacts: RatingPart
    low_contrast: RatingPart
    overall: RatingPart


class FindingsPart(_Part):
    """One sentence for each attribute."""

    noise: Line
    sharpness: Line
    artifacts: Line
    low_contrast: Line
    overall: Line


class ReportPart(_Part):
    """The report in words."""

    findings: FindingsPart
    impression: Line
    suitability: Literal["suitable", "limited", "unsuitable"]
    recommendation: Line
    limits: Line


class Item(_Part):
    """Scores and report for the description of that id."""

    id: Annotated[int, Field(ge=0)]
    scores: RatingsPart
    report: ReportPart

    def to_report(self, provenance: Provenance) -> Report:
        """The engine's own words for it."""
        ratings = self.scores.model_dump()
        return Report(
            ratings={
                name: Rating(value=ratings[name]["score"], reason=ratings[name]["reason"])
                for name in ATTRIBUTES
            },
            provenance=provenance,
            **self.report.model_dump(),
        )


class Reply(_Part):
    """The whole reply: one item for each description sent."""

    reports: Annotated[list[Item], Field(min_length=1, max_length=32)]


def json_schema() -> dict[str, Any]:
    """The schema for any server; without lengths, which OpenAI's strict mode does not know."""
    schema: dict[str, Any] = _lines(Reply.model_json_schema(), None)
    return schema


def local_schema(line: int) -> dict[str, Any]:
    """The schema for llama.cpp, which holds a small model to it by grammar, token by token.

    One item, lines of at most `line` characters (a small model may never end one), scores in half
    steps (a grammar cannot hold a fraction to a range).
    """
    schema: dict[str, Any] = _lines(Reply.model_json_schema(), line)
    schema["properties"]["reports"] |= {"minItems": 1, "maxItems": 1}
    schema["$defs"]["RatingPart"]["properties"]["score"] = {"enum": [n / 2 for n in range(9)]}
    schema["$defs"]["Item"]["properties"]["id"] = {"enum": [0]}
    return schema


@cache
def schema_digest() -> str:
    """Changes whenever replies would be read differently."""
    return hashlib.sha256(json.dumps(json_schema(), sort_keys=True).encode()).hexdigest()


def read_reply(text: str, count: int) -> list[Item]:
    """The items of a reply, in the order of the descriptions that were sent.

    Raises:
        ReplyError: not JSON, not of the schema, out of range, or not one item a description.
    """
    try:
        reply = Reply.model_validate_json(text)
    except ValidationError as error:
        raise ReplyError(f"the reply does not follow the schema: {_first(error)}") from None
    items = {item.id: item for item in reply.reports}
    if sorted(items) != list(range(count)) or len(reply.reports) != count:
        raise ReplyError(
            f"the reply has items {[i.id for i in reply.reports]} for {count} descriptions"
        )
    return [items[place] for place in range(count)]


def _first(error: ValidationError) -> str:
    """Where and what, without the reply's own text."""
    found = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, found['loc'])) or 'reply'}: {found['msg']}"[:200]


def _lines(node: Any, line: int | None) -> Any:
    """The schema with another bound on every line of text."""
    if isinstance(node, list):
        return [_lines(item, line) for item in node]
    if not isinstance(node, dict):
        return node
    lengths = {"minLength", "maxLength", "minItems", "maxItems"}
    kept = {key: _lines(value, line) for key, value in node.items() if key not in lengths}
    if line is not None and "maxLength" in node:
        kept |= {"minLength": 1, "maxLength": line}
    return kept
