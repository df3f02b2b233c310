"""A self-contained HTML page: pictures, score bars, captions, reports; works without a network."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from numpy.typing import NDArray

from ..assessment import Assessment, Report, Score
from ..template import ATTRIBUTES, MAX_SCORE, level_of
from . import pictures
from .rows import Row

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CT image quality</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem;
       color: #1c2430; background: #f6f7f9; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; } .note { color: #5a6676; margin-top: 0; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(22rem, 1fr)); gap: 1rem; }
article { background: #fff; border: 1px solid #dde2e8; border-radius: 8px; padding: 1rem; }
article.failed { border-color: #c0392b; }
h2 { font-size: 1rem; margin: 0 0 .6rem; overflow-wrap: anywhere; display: flex; gap: .5rem; }
h2 b { margin-left: auto; }
img { width: 100%; border-radius: 4px; background: #000; display: block; }
dl { display: grid; grid-template-columns: 7.2rem 1fr 2.4rem; gap: .25rem .6rem; margin: .8rem 0; }
dt { color: #5a6676; } dd { margin: 0; }
.bar { background: #e8ebf0; border-radius: 3px; align-self: center; height: .7rem; }
.bar i { display: block; height: 100%; border-radius: 3px; }
.l0 { background: #b3261e; } .l1 { background: #dd7a20; } .l2 { background: #d9b310; }
.l3 { background: #5fa54a; } .l4 { background: #23803c; }
p { margin: .5rem 0; } .remedy { color: #37475a; }
</style></head><body>
"""
TAIL = "</main></body></html>\n"


def heading(count: int, failed: int, origin: str) -> str:
    """Top of the page."""
    failures = f", {failed} could not be assessed" if failed else ""
    return (
        f"<h1>CT image quality: {count} slices{failures}</h1>"
        f'<p class="note">Scores 0 (bad) to {MAX_SCORE:.0f} (excellent), learned from '
        f"{html.escape(origin)}, worst first. A caption names the likeliest level; a score is the "
        "mean over all levels, so it may lie nearer to another. Not a medical device.</p><main>\n"
    )


def card(row: Row, picture: str) -> str:
    """One slice's card; `picture` is a base64 PNG, empty when there is none."""
    name = html.escape(row.name)
    image = f'<img alt="{name}" src="data:image/png;base64,{picture}">' if picture else ""
    if not isinstance(row.result, Assessment):
        return (
            f'<article class="failed"><h2>{name}</h2>{image}'
            f"<p>Not assessed: {html.escape(str(row.result))}</p></article>\n"
        )
    result = row.result
    bars = "".join(_bar(n, result.scores[n]) for n in ATTRIBUTES if n in result.scores)
    overall = result.scores.get("overall")
    total = f"<b>{overall.value:.1f}</b>" if overall else ""
    return (
        f"<article><h2>{name}{total}</h2>{image}<dl>{bars}</dl>"
        f"<p>{html.escape(result.caption)}</p>"
        f'<p class="remedy">{html.escape(result.report.impression)} '
        f"{html.escape(result.report.recommendation)}</p>{_written_by(result.report)}</article>\n"
    )


def _written_by(report: Report) -> str:
    """A language model's ratings and name; nothing for a plain template report."""
    found = report.provenance
    if found.source == "template":
        reason = f"Template report: {found.reason}" if found.reason else ""
        return f'<p class="note">{html.escape(reason)}</p>' if reason else ""
    ratings = ", ".join(f"{n.replace('_', ' ')} {r.value:g}" for n, r in report.ratings.items())
    return (
        f'<p class="note">Rated by {html.escape(found.model or found.source)}: '
        f"{html.escape(ratings)}; {report.suitability} for diagnosis.</p>"
    )


def _bar(name: str, score: Score) -> str:
    level = level_of(score.value)
    return (
        f"<dt>{name.replace('_', ' ')}</dt>"
        f'<dd class="bar" title="{score.words}, confidence {score.confidence:.0%}">'
        f'<i class="l{level}" style="width:{score.value / MAX_SCORE:.0%}"></i></dd>'
        f"<dd>{score.value:.1f}</dd>"
    )


def thumbnail(hu: NDArray[np.float32]) -> str:
    """Base64 PNG of a slice, see `pictures.thumbnail`."""
    stream = io.BytesIO()
    pictures.thumbnail(hu).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
