"""iqagpt: CT image quality in words, scores and a report, beside the scanner.

Names are re-exported lazily: `import engine` loads neither ONNX Runtime nor pydantic.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assessment import Assessment, Provenance, Rating, Report, Score, SeriesReport, Timings
    from .engine import Engine
    from .errors import (
        BackendError,
        BackendUnavailableError,
        BundleCorruptError,
        BundleError,
        BundleNotFoundError,
        BundlePathError,
        BundleVersionError,
        ChatError,
        CircuitOpenError,
        DeadlineError,
        EngineClosedError,
        EngineForkedError,
        ImageFileError,
        InputError,
        IqaError,
        MissingExtraError,
        NoAnatomyError,
        NonFiniteError,
        NoPixelsError,
        NotCtError,
        NotHounsfieldError,
        OfflineError,
        OptionError,
        QueueFullError,
        ReplyError,
        ReporterError,
        ReporterSetupError,
        ReporterStatusError,
        ReporterTimeoutError,
        ReporterUnreachableError,
        ShapeError,
        TemplateError,
        UnreadableFileError,
        UnsupportedEncodingError,
    )
    from .observe import EngineStats, Histogram
    from .offline import forbid_network
    from .prepare import square_pixels
    from .reporting.options import ReporterOptions

logging.getLogger(__name__).addHandler(logging.NullHandler())

__version__ = "0.1.0"

__all__ = [
    "Assessment",
    "BackendError",
    "BackendUnavailableError",
    "BundleCorruptError",
    "BundleError",
    "BundleNotFoundError",
    "BundlePathError",
    "BundleVersionError",
    "ChatError",
    "CircuitOpenError",
    "DeadlineError",
    "Engine",
    "EngineClosedError",
    "EngineForkedError",
    "EngineStats",
    "Histogram",
    "ImageFileError",
    "InputError",
    "IqaError",
    "MissingExtraError",
    "NoAnatomyError",
    "NoPixelsError",
    "NonFiniteError",
    "NotCtError",
    "NotHounsfieldError",
    "OfflineError",
    "OptionError",
    "Provenance",
    "QueueFullError",
    "Rating",
    "ReplyError",
    "Report",
    "ReporterError",
    "ReporterOptions",
    "ReporterSetupError",
    "ReporterStatusError",
    "ReporterTimeoutError",
    "ReporterUnreachableError",
    "Score",
    "SeriesReport",
    "ShapeError",
    "TemplateError",
    "Timings",
    "UnreadableFileError",
    "UnsupportedEncodingError",
    "__version__",
    "forbid_network",
    "square_pixels",
]

_HOMES = {name: "errors" for name in __all__ if name.endswith("Error")} | {
    "Engine": "engine",
    "EngineStats": "observe",
    "Histogram": "observe",
    "square_pixels": "prepare",
    "Assessment": "assessment",
    "Report": "assessment",
    "Score": "assessment",
    "Timings": "assessment",
    "Provenance": "assessment",
    "Rating": "assessment",
    "SeriesReport": "assessment",
    "ReporterOptions": "reporting.options",
    "forbid_network": "offline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
