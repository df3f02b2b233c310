"""The command line: `iqagpt assess`, `chat`, `bundle` and `cache`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from . import __version__, cli_reporter
from .errors import ImageFileError, IqaError
from .reporting.options import TOGETHER

if TYPE_CHECKING:
    from .dicom.reader import CtSlice
    from .engine import Engine
    from .output.files import Sink

ALL_ASSESSED, SOME_FAILED, NOTHING_DONE = 0, 1, 2

_EPILOG = """\
exit codes: 0 every slice was assessed; 1 some were not; 2 none was, or the call or bundle is wrong
example:    iqagpt assess examples --html report.html
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(arguments)
    try:
        code: int = args.run(args)
    except (IqaError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return NOTHING_DONE
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="iqagpt",
        description="CT image quality in words and scores.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"iqagpt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    assess = commands.add_parser(
        "assess",
        help="assess CT slices",
        description="Assess DICOM files, folders and NIfTI volumes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    assess.add_argument("paths", nargs="+", metavar="PATH", help="file or folder")
    assess.add_argument("--bundle", metavar="DIR", help="bundle folder (default: the one inside)")
    assess.add_argument("--device", default="cpu", help="cpu, openvino, cuda, tensorrt, … (cpu)")
    assess.add_argument("--batch", type=int, default=8, metavar="N", help="slices per run (8)")
    assess.add_argument("--json", metavar="FILE", help='JSON lines, a slice a line; "-": stdout')
    assess.add_argument("--csv", metavar="FILE", help="a slice a line")
    assess.add_argument("--html", metavar="FILE", help="a page with pictures, worst slices first")
    assess.add_argument("--pdf", metavar="FILE", help="the same as a PDF (extra `pdf`)")
    assess.add_argument("--sr", metavar="DIR", help="a DICOM SR per series (extra `dicom-sr`)")
    assess.add_argument(
        "--reporter",
        choices=("template", "chatgpt", "required"),
        default="template",
        help="who writes ratings and reports: the template (no network), a language model with "
        "the template behind it, or a language model or else an error",
    )
    assess.add_argument("--summary", action="store_true", help="sum up all slices at the end")
    cli_reporter.add_options(assess)
    assess.set_defaults(run=_assess)
    cli_reporter.add_chat(commands)
    cli_reporter.add_cache(commands)
    bundle = commands.add_parser("bundle", help="look at a bundle")
    actions = bundle.add_subparsers(required=True, metavar="show|verify")
    show = actions.add_parser("show", help="print what a bundle says about itself")
    show.add_argument("bundle", nargs="?", help="bundle folder (default: the one inside)")
    show.add_argument("--json", action="store_true", help="the whole manifest as JSON")
    show.set_defaults(run=_show)
    verify = actions.add_parser("verify", help="check the hash of every file")
    verify.add_argument("bundle", nargs="?", help="bundle folder (default: the one inside)")
    verify.set_defaults(run=_verify)
    return parser


def _assess(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from .dicom.series import SliceSource
    from .engine import Engine
    from .output.terminal import Summary

    source = SliceSource(args.paths)
    if not len(source):
        raise ImageFileError(f"no image files in {', '.join(args.paths)}")
    sinks = _sinks(args)
    errors = Console(stderr=True)
    begin = time.perf_counter()
    summary = Summary() if args.summary else None
    reporter = None
    if args.reporter != "template":
        reporter = cli_reporter.options(args, required=args.reporter == "required")
    with (
        cli_reporter.network(args),
        Engine.load(
            args.bundle, device=args.device, max_batch=args.batch, reporter=reporter
        ) as engine,
    ):
        items = track(source, "assess", console=errors, transient=True)
        # A model is asked about many slices at once: equal captions share a request.
        group = args.batch if reporter is None else max(args.batch, TOGETHER)
        done, failed = _run(engine, items, group, [*sinks, *([summary] if summary else [])])
        for sink in sinks:
            sink.finish()
        if summary:
            page = errors if args.json == "-" else Console()
            page.print(summary.table(engine.summarise(summary.results)))
        if (stats := engine.reporter_stats()) is not None:
            errors.print(cli_reporter.summary(stats))
    seconds = time.perf_counter() - begin
    errors.print(f"{done} assessed, {failed} failed in {seconds:.1f} s ({done / seconds:.1f}/s)")
    if not done:
        return NOTHING_DONE
    return SOME_FAILED if failed else ALL_ASSESSED


def _sinks(args: argparse.Namespace) -> list[Sink]:
    from .output.files import Csv, Html, JsonLines, StructuredReports
    from .output.terminal import Terminal

    sinks: list[Sink] = [] if args.json == "-" else [Terminal()]
    if args.json:
        sinks.append(JsonLines(args.json))
    if args.csv:
        sinks.append(Csv(args.csv))
    if args.html:
        sinks.append(Html(args.html))
    if args.pdf:
        from .output.pdf import Pdf

        sinks.append(Pdf(args.pdf))
    if args.sr:
        sinks.append(StructuredReports(args.sr))
    return sinks


def _run(
    engine: Engine, items: Iterable[CtSlice | ImageFileError], batch: int, sinks: list[Sink]
) -> tuple[int, int]:
    """Assess batch after batch, so that memory stays flat; returns (assessed, failed)."""
    from .output.rows import assessed

    done = failed = 0
    for row, item in assessed(engine, items, batch):
        good = not isinstance(row.result, IqaError)
        done, failed = done + good, failed + (not good)
        for sink in sinks:
            sink.add(row, None if isinstance(item, ImageFileError) else item.hu)
    return done, failed


def _show(args: argparse.Namespace) -> int:
    from rich.console import Console

    from .bundle.store import open_bundle
    from .output.terminal import bundle_table

    opened = open_bundle(args.bundle)
    if args.json:
        sys.stdout.write(opened.manifest.model_dump_json(indent=1) + "\n")
    else:
        Console().print(bundle_table(opened.manifest.model_dump()))
    return ALL_ASSESSED


def _verify(args: argparse.Namespace) -> int:
    from .bundle.store import open_bundle

    opened = open_bundle(args.bundle)
    sys.stdout.write(
        f"{opened.manifest.name}: {len(opened.manifest.files)} files are as exported\n"
    )
    return ALL_ASSESSED


if __name__ == "__main__":
    raise SystemExit(main())
