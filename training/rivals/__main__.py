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

import numpy as np
import pandas as pd

from engine.errors import IqaError
from engine.template import ATTRIBUTES

from ..data.formats import folder_of, read_table
from ..evaluate import agreement, table
from ..loop import add_device, add_schedule, schedule_of
from .base import Rival
from .judge import judge, list_cases, read_scores

Make = Callable[[argparse.Namespace, Path, pd.DataFrame], Rival]


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`. Exit codes: 0 done, 2 bad input, 3 the rival cannot run."""
    args = _parser().parse_args(arguments)
    folder = folder_of(args.data)
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
    said, test = read_scores(out, rows), rows[rows["split"] == "test"]
    truth, patients = test[list(ATTRIBUTES)].to_numpy(float), test["patient"].to_numpy(str)
    found = {}
    for a, name in enumerate(ATTRIBUTES):
        known = np.isfinite(said[:, a])
        if known.sum() > 2 and np.ptp(said[known, a]) > 0:
            found[name] = agreement(said[known, a], truth[known, a], patients[known])
    return table(found)


def _multitask(args: argparse.Namespace, folder: Path, rows: pd.DataFrame) -> Rival:
    from .multitask import MultitaskRival, train

    task = args.name.removeprefix("multitask-")
    schedule = schedule_of(args, args.device)
    train(folder, rows, args.out, task, schedule, measured=args.measured)
    return MultitaskRival(args.out)


def _clip_iqa(args: argparse.Namespace, _folder: Path, _rows: pd.DataFrame) -> Rival:
    from .clip_iqa import Clip, ClipIqa

    return ClipIqa(Clip(args.clip))


def _clip_iqa_plus(args: argparse.Namespace, folder: Path, rows: pd.DataFrame) -> Rival:
    from .clip_iqa import Clip, ClipIqaPlus, train

    clip = Clip(args.clip)
    train(clip, folder, rows, args.out, schedule_of(args))
    return ClipIqaPlus(clip, args.out)


def _vision_llm(args: argparse.Namespace, folder: Path, rows: pd.DataFrame) -> Rival:
    from . import vision_llm

    options = vision_llm.vision_options(
        base_url=args.base_url,
        model=args.model,
        concurrency=args.concurrency,
        attempts=args.attempts,
        cache=args.out / "replies.sqlite3",
    )
    rival = vision_llm.VisionLlm(options, send_pixels=args.send_pixels)
    test = rows[rows["split"] == "test"]
    count = sum(rival.unanswered([case]) for case in list_cases(folder, rows, test))
    sys.stderr.write(f"{vision_llm.estimate(count, args.prices)}\n")
    sys.stderr.write(vision_llm.WARNING.format(count=count, url=rival.url))
    return rival


def _classic(args: argparse.Namespace, _folder: Path, _rows: pd.DataFrame) -> Rival:
    from .classics import Classic

    return Classic(args.name)


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
        heads = _add(names, name, about, _multitask)
        add_schedule(heads)
        add_device(heads)
        heads.add_argument(
            "--measured",
            action="store_true",
            help="also learn the measured physics and maps, as the captioner does",
        )
    for name, about, clip_make in (
        ("clip-iqa", "CLIP-IQA: antonym prompts", _clip_iqa),
        ("clip-iqa-plus", "CLIP-IQA+: learned prompts", _clip_iqa_plus),
    ):
        one = _add(names, name, about, clip_make)
        one.add_argument("--clip", type=Path, required=True, help="folder of a Hugging Face CLIP")
        if clip_make is _clip_iqa_plus:
            add_schedule(one)
    _add_vision(names)
    for name, about in (
        ("psnr", "peak signal-to-noise ratio against the clean slice"),
        ("ssim", "structural similarity to the clean slice"),
        ("global-noise", "most frequent local deviation in soft tissue (Christianson 2015)"),
        ("blur-effect", "blur without reference (Crete 2007)"),
        ("brisque", "BRISQUE (extra `brisque`)"),
    ):
        _add(names, name, about, _classic)
    return parser


def _add(
    names: argparse._SubParsersAction[argparse.ArgumentParser], name: str, about: str, make: Make
) -> argparse.ArgumentParser:
    one = names.add_parser(name, help=about, description=about)
    one.add_argument("data", type=Path, help="data set: ours, LDCTIQAC 2023, or a CSV")
    one.add_argument("--out", type=Path, required=True, help="folder; resumes there")
    one.set_defaults(make=make)
    return one


def _add_vision(names: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from .vision_llm import MODEL

    one = _add(names, "vision-llm", "GPT-4 with vision: sends the slices away", _vision_llm)
    one.add_argument("--send-pixels", action="store_true", help="consent: pixels leave the machine")
    one.add_argument("--model", default=MODEL, help=f"model id at the server ({MODEL})")
    one.add_argument("--base-url", help="OpenAI-compatible server (default: OpenAI)")
    one.add_argument("--concurrency", type=int, default=4, help="most requests at a time (4)")
    one.add_argument("--attempts", type=int, default=4, help="most calls for one slice (4)")
    one.add_argument(
        "--prices",
        type=float,
        nargs=2,
        metavar=("PROMPT", "COMPLETION"),
        help="price of a million tokens of each, for the estimate that is printed first",
    )


if __name__ == "__main__":
    raise SystemExit(main())
