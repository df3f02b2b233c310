"""`python -m export CHECKPOINT --out BUNDLE --slices DATA`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from engine.errors import IqaError


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit code 0 written, 1 parity failed, 2 bad checkpoint or data."""
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Export a fine-tuned captioner to a bundle and prove that it says the same.",
        epilog="example: python -m export runs/small --out runs/bundle --slices runs/ct-iqa",
    )
    parser.add_argument("checkpoint", type=Path, help="folder written by training.finetune")
    parser.add_argument("--out", type=Path, required=True, help="bundle folder; replaced")
    parser.add_argument(
        "--slices", type=Path, required=True, help="data set; its test slices are compared"
    )
    args = parser.parse_args(arguments)

    from training.data.formats import read_slice, read_table

    from .errors import CheckpointError, ParityError
    from .write_bundle import export

    try:
        rows = read_table(args.slices)
        slices = [read_slice(args.slices / name) for name in rows[rows["split"] == "test"]["file"]]
        manifest = export(args.checkpoint, args.out, slices)
    except ParityError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except (CheckpointError, FileNotFoundError, ValueError, IqaError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    table = Table("parity", "value", title=f"{args.out}: {manifest.name}, {manifest.precision}")
    for name, value in manifest.parity.items():
        table.add_row(name.replace("_", " "), f"{value:.6g}")
    size = sum(part.bytes for part in manifest.files.values()) / 1e6
    table.add_row("size", f"{size:.1f} MB")
    Console().print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
