"""Errors of the export; each message names the cause and the remedy.

IqaError
└── ExportError
    ├── CheckpointError (ValueError)     the checkpoint cannot be exported as it is
    ├── TargetError (ValueError)         no such engine can be built, or not here
    └── ParityError (RuntimeError)       the graphs do not say what the source says
"""

from __future__ import annotations

from engine.errors import IqaError


class ExportError(IqaError):
    """Nothing was written."""


class CheckpointError(ExportError, ValueError):
    """The checkpoint folder cannot be exported; the message says why and what to do."""


class TargetError(ExportError, ValueError):
    """Target, precision and this machine do not go together."""


class ParityError(ExportError, RuntimeError):
    """The graphs do not say what the source says.

    Attributes:
        figures: what `parity.measure` found; empty if it came to nothing.
    """

    def __init__(self, message: str, figures: dict[str, float]) -> None:
        super().__init__(message)
        self.figures = figures
