"""`python -m benchmarks.latency`: how long a slice takes.

Three scenarios, in MLPerf's words: SingleStream sends the next slice when the last has come back;
MultiStream sends --batch slices at once, and again when all have come back; Offline has all slices
at hand from the beginning. HU arrays are in memory already; reading DICOM is in
`benchmarks.throughput`.
"""

from __future__ import annotations

import argparse

from ..harness import options

SCENARIOS = ("single", "multi", "offline")
_EXAMPLE = "python -m benchmarks.latency --batch 2 8 --json latency.json --plot latency.png"


def main(arguments: list[str] | None = None) -> int:
    """Command line; the last line of stdout is the report as one line of JSON."""
    args = parser().parse_args(arguments)
    from .run import run

    return options.guarded(run, args)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = options.parser("latency", __doc__, _EXAMPLE)
    add = made.add_argument
    add("--scenario", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="which (all)")
    add(
        "--batch",
        type=options.count,
        nargs="+",
        default=[8],
        metavar="N",
        help="slices a MultiStream query and most in one Offline run (8); SingleStream has 1",
    )
    add("--warmup", type=options.whole, default=10, help="queries not counted (10)")
    add("--iterations", type=options.count, default=30, help="least queries (30)")
    add("--seconds", type=options.seconds, default=10.0, help="least time a scenario (10)")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
