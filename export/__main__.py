"""`python -m export CHECKPOINT --out BUNDLE`: see `--help`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from engine.bundle.manifest import ClausePart, Manifest, Precision, Target, read_template
from engine.errors import IqaError, TemplateError
from engine.prepare import Window
from engine.template import CT_IQA, Template

if TYPE_CHECKING:
    from .sources.base import Options

WRITTEN, PARITY_FAILED, REFUSED = 0, 1, 2

_CLAUSES = TypeAdapter(list[ClausePart])

_EPILOG = """\
exit codes: 0 written; 1 the graphs differ from the source; 2 bad checkpoint, slices or target

examples:
  python -m export runs/small --out runs/bundle --slices runs/ct-iqa
  python -m export runs/blip --out runs/blip-int8 --precision int8 --prompt "a picture of"
  python -m export runs/blip --out runs/blip-rtx --target tensorrt-rtx --compute-capability 8.6 8.9
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    args = _parser().parse_args(arguments)
    logging.disable(logging.WARNING)  # exporter and quantizer give advice that does not apply
    from . import parity, slices
    from .errors import ParityError
    from .write_bundle import export

    precision: Precision = args.precision or ("fp16" if "tensorrt" in args.target else "fp32")
    console = Console()
    try:
        found = slices.read(args.slices or slices.EXAMPLES, args.count)
        manifest = export(
            args.checkpoint,
            args.out,
            found.parity,
            options=_options(args),
            precision=precision,
            calibration=found.calibration,
            target=args.target,
            compute_capabilities=args.compute_capability,
            timing_cache=args.timing_cache,
            template=_template(args.template),
            allow_drift=args.allow_drift,
        )
    except ParityError as error:
        if error.figures:
            console.print(_parity_table(error.figures, parity.gates(precision)))
        sys.stderr.write(f"error: {error}\n")
        return PARITY_FAILED
    except (IqaError, OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return REFUSED
    console.print(_parity_table(manifest.parity, parity.gates(precision)))
    console.print(_file_table(manifest, args.out))
    if missed := parity.failed(manifest.parity, precision):
        sys.stderr.write(f"warning: --allow-drift let pass: {', '.join(missed)}\n")
    return WRITTEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Export a fine-tuned captioner to a bundle and prove that it says the same.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="a BlipForConditionalGeneration or VisionEncoderDecoderModel folder, or one written "
        "by training.finetune",
    )
    parser.add_argument("--out", type=Path, required=True, help="bundle folder; replaced")
    parser.add_argument(
        "--slices",
        type=Path,
        help="a data set, whose test slices are compared, or DICOM files (default: the examples)",
    )
    parser.add_argument("--count", type=_positive, help="compare at most so many slices (all)")
    parser.add_argument(
        "--precision", choices=get_args(Precision), help="fp32; fp16 for TensorRT targets"
    )
    parser.add_argument("--target", choices=get_args(Target), default="cpu", help="device (cpu)")
    parser.add_argument(
        "--compute-capability",
        nargs="+",
        default=[],
        metavar="X.Y",
        help="GPUs to compile for: nvidia-smi --query-gpu=compute_cap",
    )
    parser.add_argument("--timing-cache", type=Path, metavar="FILE", help="TensorRT's, kept")
    parser.add_argument("--prompt", default="", help='what captions start from: "a picture of"')
    parser.add_argument(
        "--windows",
        type=_windows,
        metavar="LOW:HIGH,…",
        help="HU window of each channel, e.g. --windows=-160:240,-1350:150,-1000:2000",
    )
    parser.add_argument(
        "--template",
        default="ct-iqa-1",
        metavar="FILE",
        help="JSON: the sentences of the captions, so that they can be drafted (those of this "
        'project, "ct-iqa-1"); "none": free text',
    )
    parser.add_argument(
        "--allow-drift", action="store_true", help="write the bundle even if a gate is missed"
    )
    return parser


def _options(args: argparse.Namespace) -> Options:
    from .sources.base import Options

    return Options(prompt=args.prompt, windows=args.windows)


def _template(named: str) -> Template | None:
    """A template by its name, or from a file.

    Raises:
        TemplateError: the file holds none.
    """
    if named in ("ct-iqa-1", "none"):
        return CT_IQA if named == "ct-iqa-1" else None
    try:
        return read_template(_CLAUSES.validate_json(Path(named).read_bytes()))
    except (OSError, ValidationError) as error:
        raise TemplateError(
            f"--template {named} is no list of {{attribute, sentences}}: {error}"
        ) from error


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _windows(text: str) -> tuple[Window, ...]:
    """LOW:HIGH,LOW:HIGH,…"""
    found = []
    for part in text.split(","):
        low, high = map(float, part.split(":"))
        if not low < high:
            raise argparse.ArgumentTypeError(f"window {part}: low must be below high")
        found.append(Window(low=low, high=high))
    return tuple(found)


def _parity_table(figures: Mapping[str, float], gates: Mapping[str, tuple[str, float]]) -> Table:
    table = Table("parity with the source", "value", "gate", "")
    for name, value in figures.items():
        relation, limit = gates.get(name, ("", 0.0))
        good = value <= limit if relation == "<=" else value >= limit
        verdict = ("[green]pass[/]" if good else "[red]FAIL[/]") if relation else ""
        gate = f"{relation} {limit:g}" if relation else ""
        table.add_row(name.replace("_", " "), f"{value:.6g}", gate, verdict)
    return table


def _file_table(manifest: Manifest, out: Path) -> Table:
    table = Table(f"{out}: {manifest.name}, {manifest.precision}, {manifest.target}", "MB")
    for name, part in manifest.files.items():
        table.add_row(name, f"{part.bytes / 1e6:.1f}")
    table.add_row("all", f"{sum(part.bytes for part in manifest.files.values()) / 1e6:.1f}")
    return table


if __name__ == "__main__":
    raise SystemExit(main())
