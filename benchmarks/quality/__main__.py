"""`python -m benchmarks.quality DATA`: how good the assessments are, and against whom.

The engine judges the test patients of a data set through its public API; rivals are read from what
`python -m training.rivals` wrote. The last line of stdout is the result as one line of JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`. Exit codes: 0 done, 2 bad input, 3 engine or rival."""
    args = _parser().parse_args(arguments)
    from .run import run

    return run(args)


def _named(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=FOLDER")
    return name, folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m benchmarks.quality runs/ct-iqa --out docs/quality "
        "--rival 'multi-task regression=runs/rival-reg'",
    )
    parser.add_argument("data", type=Path, help="data set: ours, LDCTIQAC 2023, or a CSV")
    parser.add_argument("--bundle", type=Path, help="bundle folder (default: the embedded one)")
    parser.add_argument("--device", default="cpu", help="where the engine runs (cpu)")
    parser.add_argument("--threads", type=int, help="threads per graph run")
    parser.add_argument(
        "--rival",
        type=_named,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help="what training.rivals wrote; may be given again",
    )
    parser.add_argument("--slices", type=int, help="test slices, evenly spread (all)")
    parser.add_argument("--rounds", type=int, default=1000, help="bootstrap rounds (1000)")
    parser.add_argument(
        "--stress", type=int, default=12, help="originals in robustness series; 0: none (12)"
    )
    parser.add_argument("--out", type=Path, help="folder for quality.md, quality.json and plots")
    parser.add_argument(
        "--protocol",
        choices=["ldctiqac2023"],
        help="print that challenge's score on all slices of DATA, nothing else",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
