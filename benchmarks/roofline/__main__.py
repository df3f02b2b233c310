"""`python -m benchmarks.roofline`: what the machine allows, and how much of it each stage reaches.

FP32 and INT8 matrix products and memory bandwidth are measured first, then the bundle's stages:
encoder, verify pass over a whole draft, single decoder step. What each has to compute and to move
is counted from the ONNX graphs. Named GPUs are projections from public figures, and say so. The
last line of stdout is the result as one line of JSON.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..harness.options import guarded


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    args = _parser().parse_args(arguments)
    from .run import run

    return guarded(run, args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roofline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 measured, 2 the bundle cannot be opened\n\n"
        "example: python -m benchmarks.roofline --plot roofline.png --json roofline.json",
    )
    parser.add_argument("--bundle", type=Path, help="bundle folder (default: the embedded one)")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes (1 8)")
    parser.add_argument("--threads", type=int, help="threads per graph run (default: all cores)")
    parser.add_argument("--iterations", type=int, default=30, help="least runs a stage (30)")
    parser.add_argument("--seconds", type=float, default=3.0, help="least time a stage (3)")
    parser.add_argument("--json", type=Path, help="write the result here, too")
    parser.add_argument("--plot", type=Path, help="PNG of the roofline, log-log")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
