"""`python -m benchmarks.throughput`: how many slices a second, at which latency.

closed: N clients, each sends its next slice when the last has come back. open: slices arrive at
random (Poisson) at rising rates, whether or not the engine keeps up; from the moment a slice is due
its latency counts, and its caller waits for as long as the bound. study: a DICOM folder from disk
to assessments, decoding included. soak: many slices in a row, and the memory meanwhile.
"""

from __future__ import annotations

import argparse

from ..harness import options

PARTS = ("closed", "open", "study", "soak")
_EXAMPLE = "python -m benchmarks.throughput --bound-ms 200 --json load.json --plot load.png"


def main(arguments: list[str] | None = None) -> int:
    """Command line; the last line of stdout is the report as one line of JSON."""
    made = parser()
    args = made.parse_args(arguments)
    if "open" in args.part and "closed" not in args.part and not args.rates:
        made.error("open without closed needs --rates; else rates follow from the closed peak")
    args.timeout = args.timeout or args.bound_ms / 1000.0
    from .run import run

    return options.guarded(run, args)


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = options.parser("throughput", __doc__, _EXAMPLE)
    add, count, above_zero = made.add_argument, options.count, options.above_zero
    add("--part", nargs="+", choices=PARTS, default=list(PARTS), help="which (all)")
    add("--batch", type=count, default=8, metavar="N", help="most slices in one run (8)")
    add("--queue", type=count, default=256, help="slices that may wait (256)")
    add(
        "--clients",
        type=count,
        nargs="+",
        default=[1, 2, 4, 8, 16],
        help="closed loop (1 2 4 8 16)",
    )
    add(
        "--rates",
        type=above_zero,
        nargs="+",
        help="open loop, slices/s (0.3 to 2 times the closed peak)",
    )
    add("--bound-ms", type=above_zero, default=200.0, help="the p99 bound (200)")
    add("--timeout", type=above_zero, help="seconds until an arrival gives up (the bound)")
    add("--seed", type=int, default=0, help="of the arrivals (0)")
    add("--warmup", type=options.whole, default=10, help="slices not counted (10)")
    add("--requests", type=count, default=300, help="least slices a load: p99 needs 299 (300)")
    add("--seconds", type=options.seconds, default=10.0, help="least time a load (10)")
    add("--study-slices", type=count, default=500, help="files of the study (500)")
    add("--soak-slices", type=count, default=1000, help="slices of the soak (1000)")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
