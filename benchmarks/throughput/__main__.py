"""`python -m benchmarks.throughput`: how many slices a second, at which latency.

closed: N clients, each sends its next slice when the last has come back. open: slices arrive at
random (Poisson) at rising rates, whether or not the engine keeps up; latency counts from the moment
a slice was due. study: a DICOM folder from disk to assessments, decoding included. soak: many
slices in a row, and the memory meanwhile.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..latency.__main__ import positive

PARTS = ("closed", "open", "study", "soak")

_EPILOG = """\
exit codes: 0 complete; 1 something asked for was not measured, or slices failed, see "failures";
            2 nothing was: the call, the bundle or the device is wrong
example:    python -m benchmarks.throughput --bound-ms 200 --json load.json --plot load.png
"""


def main(arguments: list[str] | None = None) -> int:
    """Command line; the last line of stdout is the report as one line of JSON."""
    made = parser()
    args = made.parse_args(arguments)
    if args.part == ["open"] and not args.rates:
        made.error("open alone needs --rates; with closed, rates follow from its peak")
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
        prog="python -m benchmarks.throughput",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EPILOG,
    )
    add = made.add_argument
    add("--bundle", metavar="DIR", help="bundle folder (default: the one inside)")
    add("--device", default="cpu", help="where to run (cpu)")
    add(
        "--precision", choices=("fp32", "fp16", "int8"), help="refuse a bundle in another precision"
    )
    add("--part", nargs="+", choices=PARTS, default=list(PARTS), help="which (all)")
    add("--batch", type=positive, default=8, metavar="N", help="most slices in one run (8)")
    add("--threads", type=positive, help="threads per graph run (all cores)")
    add("--queue", type=positive, default=256, help="slices that may wait (256)")
    add("--clients", type=positive, nargs="+", default=[1, 2, 4, 8, 16], help="closed loop")
    add("--rates", type=rate, nargs="+", help="open loop, slices/s (shares of the closed peak)")
    add("--bound-ms", type=rate, default=200.0, help="the p99 bound (200)")
    add("--timeout", type=rate, default=1.0, help="seconds until an arrival is given up (1)")
    add("--seed", type=int, default=0, help="of the arrivals (0)")
    add("--warmup", type=int, default=10, help="slices not counted (10)")
    add("--requests", type=positive, default=300, help="least slices a load: p99 needs 299 (300)")
    add("--seconds", type=float, default=10.0, help="least time a load (10)")
    add("--study-slices", type=positive, default=500, help="files of the study (500)")
    add("--soak-slices", type=positive, default=1000, help="slices of the soak (1000)")
    add("--json", type=Path, metavar="FILE", help="write every sample here")
    add("--plot", type=Path, metavar="FILE", help="latency against load, batches, memory, PNG")
    return made


def rate(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


if __name__ == "__main__":
    raise SystemExit(main())
