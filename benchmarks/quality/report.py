"""The result as Markdown tables, for people and for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.template import ATTRIBUTES

_NAMES = (*ATTRIBUTES, "mean")


def markdown(result: Mapping[str, Any]) -> str:
    """Every section that the result has, in a fixed order."""
    parts = [f"# Quality\n\n{_about(result)}"]
    for title, key, make in _SECTIONS:
        if result.get(key):
            parts.append(f"## {title}\n\n{make(result)}")
    return "\n\n".join(parts) + "\n"


def _about(result: Mapping[str, Any]) -> str:
    return (
        f"Written by `python -m benchmarks.quality`. Bundle {result['bundle']}; "
        f"{result['slices']} slices of {result['patients']} patients that were never trained on; "
        f"truth: {result['score_origin']}. Intervals: 95 %, bootstrap over patients, then over "
        f"their slices, {result['rounds']} rounds. Refused slices: {result['refused']}."
    )


def _agreement(result: Mapping[str, Any]) -> str:
    rows = []
    for name in _NAMES:
        figures = result["agreement"].get(name, {})
        bounds = result["intervals"].get(name)
        rows.append(
            [
                _said(name),
                _ranged(figures, bounds, "plcc"),
                _ranged(figures, bounds, "srocc"),
                *(_cell(figures.get(k)) for k in ("krocc", "rmse", "mae")),
                _percent(figures.get("level_accuracy")),
                _cell(figures.get("kappa")),
            ]
        )
    head = ("attribute", "PLCC", "SROCC", "KROCC", "RMSE", "MAE", "level accuracy", "kappa")
    return table(head, rows) + "\n\n![Scores over the readers' mean](scatter.png)"


def _rivals(result: Mapping[str, Any]) -> str:
    head = ("contestant", *(_said(name) for name in _NAMES), "RMSE overall", "kappa overall")
    rows = []
    for name, figures in {"this engine": result["agreement"], **result["rivals"]}.items():
        cells = [
            f"{_cell(figures.get(a, {}).get('plcc'))} / {_cell(figures.get(a, {}).get('srocc'))}"
            for a in _NAMES
        ]
        overall = figures.get("overall", {})
        rows.append([name, *cells, _cell(overall.get("rmse")), _cell(overall.get("kappa"))])
    text = "PLCC / SROCC:\n\n" + table(head, rows)
    gaps = [
        [
            name,
            *(
                _gap(figures.get(a, {}), "plcc") + ", " + _gap(figures.get(a, {}), "srocc")
                for a in ATTRIBUTES
            ),
        ]
        for name, figures in result["paired"].items()
    ]
    head = ("rival", *(_said(name) for name in ATTRIBUTES))
    return (
        f"{text}\n\nThis engine minus the rival, in the same bootstrap samples (PLCC, SROCC, each "
        f"with its interval):\n\n{table(head, gaps)}"
    )


def _ceiling(result: Mapping[str, Any]) -> str:
    rows = [
        [
            _said(name),
            *(_cell(result["ceiling"][name][k]) for k in ("plcc", "plcc_best")),
            _cell(result["agreement"][name].get("plcc")),
            *(_cell(result["ceiling"][name][k]) for k in ("srocc", "srocc_best")),
            _cell(result["agreement"][name].get("srocc")),
        ]
        for name in ATTRIBUTES
    ]
    head = (
        *("attribute", "PLCC, a reader", "best reader", "engine"),
        *("SROCC, a reader", "best reader", "engine"),
    )
    return (
        "Each simulated reader against the mean of the others; the engine against the mean of "
        f"all:\n\n{table(head, rows)}"
    )


def _captions(result: Mapping[str, Any]) -> str:
    found = result["captions"]
    head = ("captions", "exact", "BLEU-4", "ROUGE-L", "METEOR", "CIDEr")
    cells = [_cell(found[k]) for k in ("bleu4", "rouge_l", "meteor", "cider")]
    return (
        "Against the template's caption of the readers' mean scores (COCO caption toolkit):\n\n"
        + table(head, [[f"{found['n']:.0f}", _percent(found["exact"]), *cells]])
    )


def _confidence(result: Mapping[str, Any]) -> str:
    found = result["reliability"]
    rows = [
        [f"{b['confidence']:.2f}", str(b["n"]), _cell(b["mae"]), _percent(b["level_accuracy"])]
        for b in found["bins"]
    ]
    return (
        f"Expected calibration error of the most probable level: {found['ece']:.3f}. Confidence "
        f"against absolute error: SROCC {found['srocc']:.2f}.\n\n"
        + table(("confidence", "judgements", "MAE", "level accuracy"), rows)
        + "\n\n![Reliability](reliability.png)"
    )


def _groups(result: Mapping[str, Any]) -> str:
    head = ("slices with", "n", *(f"{_said(n)} PLCC (MAE)" for n in ATTRIBUTES))
    parts = []
    for title, groups in result["groups"].items():
        rows = [
            [
                name,
                f"{figures['overall']['n']:.0f}",
                *(
                    f"{_cell(figures[a].get('plcc'))} ({_cell(figures[a].get('mae'))})"
                    for a in ATTRIBUTES
                ),
            ]
            for name, figures in groups.items()
        ]
        parts.append(f"By {title}:\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _series(result: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            _said(found["attribute"]),
            str(len(found["scores"])),
            _cell(found["srocc_mean"]),
            _cell(found["srocc_least"]),
            _percent(found["share_above_0.95"]),
        ]
        for name, found in result["series"].items()
    ]
    head = ("series", "attribute", "originals", "mean SROCC", "least", "0.95 or more")
    return (
        "Untouched slices of test patients, damaged more and more; Spearman of score with strength "
        f"per original:\n\n{table(head, rows)}\n\n![Curves](curves.png)"
    )


def _moved(result: Mapping[str, Any]) -> str:
    rows = [
        [
            name,
            f"{found['n']:.0f}",
            *(
                _cell(found[k])
                for k in ("moved_mean", "moved_p95", "overall_moved_mean", "overall_plcc")
            ),
            _percent(found["flagged"]),
        ]
        for name, found in result["moved"].items()
    ]
    head = ("change", "n", "mean change", "95th percentile", "overall", "overall PLCC", "flagged")
    return (
        "Absolute change of the scores of changed test slices, and the share flagged as what is no "
        f"CT slice is below:\n\n{table(head, rows)}"
    )


def _outsiders(result: Mapping[str, Any]) -> str:
    found = dict(result["outsiders"])
    threshold, inside = found.pop("threshold"), found.pop("inside_confidence")
    rows = [
        [
            name,
            str(f["n"]),
            _percent(f["errors"]),
            _percent(f["flagged"]),
            _cell(f["confidence"]),
            _cell(f["auroc"]),
        ]
        for name, f in found.items()
    ]
    head = ("input", "n", "refused", "flagged", "confidence", "AUROC")
    return (
        f"Flagged: refused with an error, or a mean confidence below {threshold:.2f}, which 95 % "
        f"of the test slices pass (their mean is {inside:.2f}).\n\n{table(head, rows)}"
    )


_SECTIONS = (
    ("Agreement with the readers", "agreement", _agreement),
    ("Rivals", "rivals", _rivals),
    ("Reader ceiling", "ceiling", _ceiling),
    ("Captions", "captions", _captions),
    ("Confidence", "reliability", _confidence),
    ("By degradation, body part and patient", "groups", _groups),
    ("Monotonicity", "series", _series),
    ("Turned slices, fields of view, matrices, kernels", "moved", _moved),
    ("What is no CT slice", "outsiders", _outsiders),
)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _said(name: str) -> str:
    return "mean of the five" if name == "mean" else name.replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "–" if value is None or value != value else f"{value:.3f}"


def _percent(value: Any) -> str:
    return "–" if value is None or value != value else f"{100 * value:.0f} %"


def _ranged(figures: Mapping[str, Any], bounds: Mapping[str, Any] | None, key: str) -> str:
    if not bounds:
        return _cell(figures.get(key))
    return f"{_cell(figures.get(key))} ({bounds[key + '_low']:.3f}–{bounds[key + '_high']:.3f})"


def _gap(figures: Mapping[str, Any], key: str) -> str:
    if key not in figures:
        return "–"
    return f"{figures[key]:+.3f} ({figures[key + '_low']:+.3f} to {figures[key + '_high']:+.3f})"
