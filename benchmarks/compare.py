"""`python -m benchmarks.compare A B`: whether B is faster than A, as far as the samples show.

Every measured sample that both files hold is compared by its median: the ratio B / A with a 99 %
interval from a block bootstrap. The samples of one run say nothing about what differs from run to
run (load, clocks, where memory lies); --margin stands for that: a difference counts only if the
whole interval is beyond it. Where the machine's own matrix product, which runs of
`benchmarks.latency` measure first, differs by more, that is the margin.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.table import Table

    from .harness.schema import Distribution, Report

Verdict = Literal["faster", "slower", "no difference shown"]
CONFIDENCE = 0.99
END_TO_END = ("query", "latency", "rate")

_EPILOG = """\
exit codes: 0 nothing end to end is slower (a stage may be); 1 something is; 2 the files cannot be
            compared
example:    python -m benchmarks.compare before.json after.json
"""


class NotComparableError(ValueError):
    """The files hold nothing that can be compared, or not without being asked to."""


@dataclass(frozen=True, slots=True)
class Line:
    """One measured quantity of both files.

    Attributes:
        name: where it stands, such as "results / SingleStream 1 / query".
        unit: of the medians `before` (A) and `after` (B).
        ratio, low, high: B / A of the medians with the interval.
        decisive: end to end, so that it counts for the exit code; a stage does not.
    """

    name: str
    unit: str
    before: float
    after: float
    ratio: float
    low: float
    high: float
    verdict: Verdict
    decisive: bool


def main(arguments: list[str] | None = None) -> int:
    """Command line; the last line of stdout is the result as one line of JSON."""
    args = _parser().parse_args(arguments)
    import json

    from pydantic import ValidationError

    try:
        before, after = _read(args.a), _read(args.b)
        notes = differences(before, after)
        if notes["refused"] and not args.across:
            raise NotComparableError(
                "; ".join(notes["refused"]) + ". Give --across to compare them nevertheless"
            )
        margin = args.margin if notes["refused"] else max(args.margin, drift(before, after))
        lines = compare(before, after, margin=margin)
    except (NotComparableError, OSError, ValidationError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    _print(lines, [*notes["refused"], *notes["other"]], margin)
    result = {"margin": margin, "confidence": CONFIDENCE, "differences": notes}
    print(json.dumps({**result, "lines": [asdict(line) for line in lines]}))
    return 1 if any(line.decisive and line.verdict == "slower" for line in lines) else 0


def compare(before: Report, after: Report, *, margin: float) -> list[Line]:
    """Every quantity whose samples both reports hold.

    Raises:
        NotComparableError: of another schema, or without common samples.
    """
    if type(before) is not type(after):
        raise NotComparableError("one file is of benchmarks.latency, the other of throughput")
    first, second = dict(_samples(before)), dict(_samples(after))
    common = [name for name in first if name in second]
    if not common:
        raise NotComparableError(
            "the files have no samples in common; write them with --json FILE and the same "
            "scenarios (the line on stdout holds no samples)"
        )
    return [_line(name, first[name], second[name], margin) for name in common]


def verdict(low: float, high: float, better: str, margin: float) -> Verdict:
    """What an interval of the ratio B / A shows, for "lower" or "higher" is better."""
    if better == "higher":
        low, high = 1.0 / high, 1.0 / low
    if high < 1.0 / (1.0 + margin):
        return "faster"
    return "slower" if low > 1.0 + margin else "no difference shown"


def drift(before: Report, after: Report) -> float:
    """By how much this machine itself was faster in one run than in the other; 0 if unknown.

    Its speed is that of NumPy's matrix product: no version of this project makes that faster.
    """
    from .latency.report import LatencyReport

    if not isinstance(before, LatencyReport) or not isinstance(after, LatencyReport):
        return 0.0
    rates = before.sgemm_gflops, after.sgemm_gflops
    return max(rates) / min(rates) - 1.0 if before.device == "cpu" else 0.0


def differences(before: Report, after: Report) -> dict[str, list[str]]:
    """What else differs between two runs.

    Returns:
        "refused": machine, device or bundle; "other": what may be what is compared.
    """
    a, b = before.machine, after.machine
    hardware = [
        ("CPU", a.cpu, b.cpu),
        ("cores", a.cores, b.cores),
        ("CPU flags", a.flags, b.flags),
        ("GPUs", [gpu.name for gpu in a.gpus], [gpu.name for gpu in b.gpus]),
        ("device", before.device, after.device),
        ("bundle", before.bundle.sha256[:12], after.bundle.sha256[:12]),
    ]
    versions = [
        (name, a.packages.get(name), b.packages.get(name))
        for name in sorted(a.packages.keys() | b.packages.keys())
    ]
    other = [
        ("threads", before.threads, after.threads),
        ("GPU driver", [gpu.driver for gpu in a.gpus], [gpu.driver for gpu in b.gpus]),
        ("Python", a.python, b.python),
        ("system", a.system, b.system),
        *versions,
    ]
    found = {"refused": _differing(hardware), "other": _differing(other)}
    for name, report in (("A", before), ("B", after)):
        if not report.complete:
            found["other"].append(f"{name} is incomplete: {'; '.join(report.failures)}")
        if not report.publishable:
            found["other"].append(f"{name} is a short run")
        if report.machine.load_average[0] > 0.5 * report.machine.cores:
            found["other"].append(
                f"{name} began on a busy machine (load {report.machine.load_average[0]:.1f})"
            )
    return found


def _differing(facts: Sequence[tuple[str, object, object]]) -> list[str]:
    return [f"{name} differs: {a} and {b}" for name, a, b in facts if a != b]


def _read(path: Path) -> Report:
    """A report of either schema, checked whole."""
    import json

    from .latency.report import LatencyReport
    from .throughput.report import ThroughputReport

    text = path.read_text("utf-8")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotComparableError(f"{path} is not JSON: {error}") from error
    name = data.get("schema_id") if isinstance(data, dict) else None
    if name == "iqagpt-latency-2":
        return LatencyReport.model_validate_json(text)
    if name == "iqagpt-throughput-1":
        return ThroughputReport.model_validate_json(text)
    raise NotComparableError(
        f"{path} has schema_id {name!r}; this compares iqagpt-latency-2 and iqagpt-throughput-1"
    )


def _samples(node: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Distribution]]:
    """Every distribution with samples, by its place."""
    from .harness.schema import Distribution, Model

    if isinstance(node, Distribution):
        if node.samples:
            yield " / ".join(path), node
    elif isinstance(node, Model):
        for name in type(node).model_fields:
            yield from _samples(getattr(node, name), (*path, name))
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _samples(child, (*path, name))


def _line(name: str, before: Distribution, after: Distribution, margin: float) -> Line:
    import numpy as np

    from .harness import stats

    a, b = before.samples or [], after.samples or []
    # A stage that takes no time at all in one run has no ratio; a nanosecond stands for it.
    top, bottom = (np.maximum(values, 1e-6) for values in (b, a))
    value, low, high = stats.ratio(top, bottom, confidence=CONFIDENCE)
    enough = all(stats.interval_ranks(len(values), 50) for values in (a, b))
    return Line(
        name=name,
        unit=after.unit,
        before=float(np.median(a)),
        after=float(np.median(b)),
        ratio=value,
        low=low,
        high=high,
        verdict=verdict(low, high, after.better, margin) if enough else "no difference shown",
        decisive=name.split(" / ")[-1] in END_TO_END,
    )


def _print(lines: list[Line], notes: list[str], margin: float) -> None:
    from rich.console import Console

    console = Console(width=120)
    console.print(_table(lines, margin))
    for note in notes:
        console.print(f"note: {note}", highlight=False, markup=False)


def _table(lines: list[Line], margin: float) -> Table:
    from rich.table import Table

    made = Table(
        title=f"medians; 99 % intervals; differences within {margin:.0%} do not count",
        title_justify="left",
    )
    made.add_column("measured")
    for column in ("A", "B", "B / A", "interval"):
        made.add_column(column, justify="right")
    made.add_column("B is")
    colours = {"faster": "green", "slower": "red", "no difference shown": ""}
    for line in lines:
        made.add_row(
            line.name.removeprefix("results / ").removeprefix("loads / "),
            f"{line.before:.4g} {line.unit}",
            f"{line.after:.4g} {line.unit}",
            f"{line.ratio:.3f}",
            f"{line.low:.3f}–{line.high:.3f}",
            line.verdict,
            style=colours[line.verdict],
        )
    return made


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    parser.add_argument("a", type=Path, metavar="A", help="JSON of the run before")
    parser.add_argument("b", type=Path, metavar="B", help="JSON of the run after")
    parser.add_argument(
        "--across", action="store_true", help="compare different machines, devices or bundles, too"
    )
    parser.add_argument(
        "--margin", type=float, default=0.05, help="relative difference that runs may have (0.05)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
