"""`python -m benchmarks.peers`: the engine beside other ways to run the same weights.

Every contestant has a process of its own, all caption the same slices, in turns, and every caption
is compared token for token with that of the checkpoint's own code. Preparation of the pixels is the
same for all and is not timed. What is missing (weights, bundles, graphs, environments) is made
first and kept in --workdir. The last line of stdout is the result as one line of JSON.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

from .contestants import CONTESTANTS, Model


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if len(args.iterations) not in (1, len(args.batch)):
        parser.error("--iterations takes one number, or one for each batch size")
    from engine.errors import IqaError

    from .run import run

    try:
        return run(args)
    except (IqaError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    legend = "\n".join(f"  {c.name:14} {c.about}" for c in CONTESTANTS)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"contestants:\n{legend}\n\n"
        "exit codes: 0 all ran, or could not for a stated reason (no GPU); 1 a contestant failed; "
        "2 nothing was measured\n\n"
        "example: python -m benchmarks.peers --model blip-base --batch 1 8 --iterations 12 5",
    )
    parser.add_argument("--model", choices=get_args(Model), default="blip-base")
    parser.add_argument(
        "--checkpoint", type=Path, help="weights (default: random ones of the model's shape)"
    )
    parser.add_argument("--peers", nargs="+", metavar="NAME", help="contestants (default: all)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes (1 8)")
    parser.add_argument(
        "--iterations", type=int, nargs="+", default=[10], help="least rounds, one or by batch (10)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="least time a contestant (5)")
    parser.add_argument("--warmup", type=int, default=1, help="rounds not counted (1)")
    parser.add_argument("--threads", type=int, help="of every contestant (default: all cores)")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    parser.add_argument("--plot", type=Path, help="PNG of stage bars")
    parser.add_argument(
        "--workdir", type=Path, default=Path("runs/peers"), help="kept files (runs/peers)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
