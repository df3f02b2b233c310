"""Options and exit codes that the commands share. Nothing heavy is imported for `--help`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

EXIT_CODES = """\
exit codes: 0 complete; 1 something asked for was not measured, see "failures"; 2 nothing was: the
            call, the bundle or the device is wrong
example:    """


def parser(name: str, description: str | None, example: str) -> argparse.ArgumentParser:
    """A parser with the options on what runs, where, and what is written."""
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"{EXIT_CODES}{example}\n",
    )
    made.add_argument("--bundle", metavar="DIR", help="bundle folder (default: the one inside)")
    made.add_argument("--device", default="cpu", help="where to run (cpu)")
    made.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), help="refuse a bundle in another precision"
    )
    made.add_argument("--threads", type=count, help="threads per graph run (all cores)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    made.add_argument("--plot", type=Path, metavar="FILE", help="write a picture here, PNG")
    return made


def guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """The exit code of `run`; 2 and a message where the engine or the system refuses."""
    from engine import IqaError

    try:
        return run(args)
    except (IqaError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def count(text: str) -> int:
    """An integer of at least 1, for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def whole(text: str) -> int:
    """An integer of at least 0, for argparse."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0, for argparse."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def seconds(text: str) -> float:
    """Seconds of at least 0, for argparse."""
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return value
