"""`python -m benchmarks.latency`: how long a slice takes.

Three scenarios, in MLPerf's words: SingleStream sends the next slice when the last has come back;
MultiStream sends --batch slices at once, and again when all have come back; Offline has all slices
at hand from the beginning. HU arrays are in memory already; reading DICOM is in
`benchmarks.throughput`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

SCENARIOS = ("single", "multi", "offline")

_EPILOG = """\
exit codes: 0 complete; 1 something asked for was not measured, see "failures"; 2 nothing was: the
            call, the bundle or the device is wrong
example:    python -m benchmarks.latency --batch 1 8 --json latency.json --plot latency.png
"""


def main(arguments: list[str] | None = None) -> int:
    """Command line; the last line of stdout is the report as one line of JSON."""
    args = parser().parse_args(arguments)
    from engine import IqaError

    from .run import run

    try:
        return run(args)
    except (IqaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    made.add_argument("--bundle", metavar="DIR", help="bundle folder (default: the one inside)")
    made.add_argument("--device", default="cpu", help="where to run (cpu)")
    made.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), help="refuse a bundle in another precision"
    )
    made.add_argument(
        "--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="which (all)"
    )
    made.add_argument(
        "--batch",
        type=positive,
        nargs="+",
        default=[8],
        metavar="N",
        help="slices a MultiStream query and most in one Offline run (8); SingleStream has 1",
    )
    made.add_argument("--threads", type=positive, help="threads per graph run (all cores)")
    made.add_argument("--warmup", type=int, default=10, help="queries not counted (10)")
    made.add_argument("--iterations", type=positive, default=30, help="least queries (30)")
    made.add_argument("--seconds", type=float, default=10.0, help="least time a scenario (10)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    made.add_argument("--plot", type=Path, metavar="FILE", help="distribution and stages, PNG")
    return made


def positive(text: str) -> int:
    """An integer of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
