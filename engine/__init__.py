"""iqagpt: CT image quality in words, scores and a report, beside the scanner.

Names are re-exported lazily: `import engine` loads neither ONNX Runtime nor pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .assessment import Assessment, Report, Score, Timings
    from .engine import Engine
    from .errors import (
        BackendError,
        BackendUnavailableError,
        BundleCorruptError,
        BundleError,
        BundleNotFoundError,
        BundlePathError,
        BundleVersionError,
        EngineClosedError,
        ImageFileError,
        InputError,
        IqaError,
        MissingExtraError,
        NoAnatomyError,
        NonFiniteError,
        NoPixelsError,
        NotCtError,
        NotHounsfieldError,
        ShapeError,
        TemplateError,
        UnreadableFileError,
        UnsupportedEncodingError,
    )

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
    "Engine",
    "EngineClosedError",
    "ImageFileError",
    "InputError",
    "IqaError",
    "MissingExtraError",
    "NoAnatomyError",
    "NoPixelsError",
    "NonFiniteError",
    "NotCtError",
    "NotHounsfieldError",
    "Report",
    "Score",
    "ShapeError",
    "TemplateError",
    "Timings",
    "UnreadableFileError",
    "UnsupportedEncodingError",
    "__version__",
]

_HOMES = {name: "errors" for name in __all__ if name.endswith("Error")} | {
    "Engine": "engine",
    "Assessment": "assessment",
    "Report": "assessment",
    "Score": "assessment",
    "Timings": "assessment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
