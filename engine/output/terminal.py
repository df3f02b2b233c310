"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..assessment import Assessment, Report, SeriesReport
from ..errors import IqaError
from ..template import ATTRIBUTES, level_of
from .rows import Row

_COLOURS = ("red", "dark_orange", "yellow", "green", "bold green")

_BUNDLE_KEYS = (
    "family",
    "precision",
    "quantization",
    "target",
    "template",
    "opset",
    "licence",
    "data",
    "score_origin",
)


class Terminal:
    """A line per slice, printed at the end; failures with their cause below."""

    def __init__(self) -> None:
        self._table = Table()
        self._table.add_column("slice", overflow="fold", min_width=24)
        for heading in ("noise", "sharp", "artif.", "low c.", "overall", "sure"):
            self._table.add_column(heading, justify="right")
        self._failures: list[str] = []

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `Sink.add`."""
        if not isinstance(row.result, Assessment):
            message = str(row.result)
            named = message if message.startswith(row.name) else f"{row.name}: {message}"
            self._failures.append(named)
            return
        scores = row.result.scores
        cells = [_cell(scores[n].value) if n in scores else "-" for n in ATTRIBUTES]
        overall = scores.get("overall")
        self._table.add_row(
            escape(row.name), *cells, f"{overall.confidence:.0%}" if overall else "-"
        )

    def finish(self) -> None:
        """See `Sink.finish`."""
        console = Console()
        if self._table.row_count:
            console.print(self._table)
        for message in self._failures:
            console.print(f"[red]not assessed[/] {escape(message)}")


class Summary:
    """Keeps results, without pictures, to sum them up at the end."""

    def __init__(self) -> None:
        self.results: list[Assessment | IqaError] = []
        self._names: list[str] = []

    def add(self, row: Row, hu: NDArray[np.float32] | None) -> None:
        """See `Sink.add`."""
        self.results.append(row.result)
        self._names.append(row.name)

    def finish(self) -> None:
        """See `Sink.finish`."""

    def table(self, summary: SeriesReport) -> Table:
        """The summary; only here do slice numbers get their file names back."""
        table = Table("series", f"{summary.assessed} of {summary.slices} slices assessed")
        for name, finding in summary.report.findings.items():
            table.add_row(name.replace("_", " "), escape(finding))
        worst = ", ".join(f"{place} ({self._names[place]})" for place in summary.worst)
        for part in ("impression", "suitability", "recommendation", "limits"):
            table.add_row(part, escape(getattr(summary.report, part)))
        table.add_row("worst slices", escape(worst))
        table.add_row("written by", escape(written_by(summary.report)))
        return table


def written_by(report: Report) -> str:
    """Who wrote a report, and why it was the template if another was asked for."""
    found = report.provenance
    words = found.source if found.model is None else f"{found.source} ({found.model})"
    return words if found.reason is None else f"{words}, because: {found.reason}"


def _cell(value: float) -> str:
    level = level_of(value)
    return f"[{_COLOURS[level]}]{value:.1f}[/]"


def bundle_table(manifest: Mapping[str, Any]) -> Table:
    """A bundle's manifest, short; what is empty is left out."""
    table = Table("bundle", f"{manifest['name']} {manifest['version']}")
    for key in _BUNDLE_KEYS:
        if manifest[key]:
            table.add_row(key.replace("_", " "), escape(str(manifest[key])))
    for line in manifest["kept_fp32"]:
        table.add_row("kept in FP32", escape(line))
    for engine in manifest["engines"]:
        made_for = f"{engine['runtime']} {engine['runtime_version']}"
        table.add_row(
            f"engine: {engine['graph']}",
            f"{made_for}, compute capability {engine['compute_capability']}",
        )
    for name, facts in manifest["files"].items():
        table.add_row(name, f"{facts['bytes'] / 1e6:.1f} MB, SHA-256 {facts['sha256'][:16]}…")
    table.add_row(
        "all files", f"{sum(f['bytes'] for f in manifest['files'].values()) / 1e6:.1f} MB"
    )
    for package, version in manifest["provenance"].items():
        table.add_row(f"made with {package}", escape(version))
    for group in ("parity", "metrics"):
        for name, value in manifest[group].items():
            table.add_row(f"{group}: {name.replace('_', ' ')}", f"{value:.4g}")
    return table
