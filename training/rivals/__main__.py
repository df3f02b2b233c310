"""`python -m training.rivals NAME DATA --out FOLDER`: train a rival, if need be, and let it judge.

FOLDER then holds its checkpoint and what it said about the test patients, for
`python -m benchmarks.quality DATA --rival NAME=FOLDER`. A training run that was interrupted goes
on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from engine.errors import IqaError
from engine.template import ATTRIBUTES

from ..data.formats import read_table
from ..evaluate import agreement, table
from ..finetune import Schedule
from .base import Rival
from .judge import judge

Make = Callable[[argparse.Namespace, Path, pd.DataFrame], Rival]


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`. Exit codes: 0 done, 2 bad input, 3 the rival cannot run."""
    args = _parser().parse_args(arguments)
    folder = args.data.parent if args.data.suffix == ".csv" else args.data
    try:
        rows = read_table(args.data)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    try:
        rival = args.make(args, folder, rows)
        judge(rival, folder, rows, args.out)
    except IqaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 3
    sys.stdout.write(f"{rival.name}, test patients:\n{_agreement(args.out, rows)}\n")
    return 0


def _agreement(out: Path, rows: pd.DataFrame) -> str:
    from .judge import read_scores

    said, test = read_scores(out, rows), rows[rows["split"] == "test"]
    truth, patients = test[list(ATTRIBUTES)].to_numpy(float), test["patient"].to_numpy(str)
    found = {}
    for a, name in enumerate(ATTRIBUTES):
        known = pd.notna(said[:, a])
        if known.sum() > 2:
            found[name] = agreement(said[known, a], truth[known, a], patients[known])
    return table(found)


def _multitask(args: argparse.Namespace, folder: Path, rows: pd.DataFrame) -> Rival:
    from .multitask import MultitaskRival, train

    schedule = Schedule(steps=args.steps, batch=args.batch, every=args.every)
    train(folder, rows, args.out, args.name.removeprefix("multitask-"), schedule)
    return MultitaskRival(args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.rivals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m training.rivals multitask-regression runs/ct-iqa "
        "--out runs/rival-reg --steps 3000",
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, about in (
        ("multitask-classification", "the captioner's encoder, five levels per attribute"),
        ("multitask-regression", "the captioner's encoder, one number per attribute"),
    ):
        one = _add(names, name, about, _multitask)
        one.add_argument("--steps", type=int, default=Schedule().steps)
        one.add_argument("--batch", type=int, default=Schedule().batch)
        one.add_argument("--every", type=int, default=Schedule().every, help="between validations")
    return parser


def _add(
    names: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str, make: Make
) -> argparse.ArgumentParser:
    one = names.add_parser(name, help=about, description=about)
    one.add_argument("data", type=Path, help="data set: ours, LDCTIQAC 2023, or a CSV")
    one.add_argument("--out", type=Path, required=True, help="folder; resumes there")
    one.set_defaults(make=make)
    return one


if __name__ == "__main__":
    raise SystemExit(main())
