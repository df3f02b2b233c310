"""Every error the engine raises on purpose, one tree, each also the fitting builtin.

IqaError
├── InputError (ValueError)              the pixels handed over cannot be assessed
│   ├── ShapeError                       wrong rank, empty, too small, too large
│   ├── NonFiniteError                   NaN or infinity
│   ├── NotHounsfieldError               numbers that cannot be CT in Hounsfield units
│   └── NoAnatomyError                   constant, or nothing but air
├── ImageFileError (ValueError)          a file that does not give a CT slice
│   ├── NotCtError                       another modality, a localizer, a dose page
│   ├── NoPixelsError                    no pixel data, or pixel data that ends early
│   ├── UnsupportedEncodingError         transfer syntax or encoding without true HU values
│   └── UnreadableFileError              missing, truncated or not an image file
├── TemplateError (ValueError)           text that does not follow the template
├── BundleError (ValueError)             a bundle that must not be loaded
│   ├── BundleNotFoundError              no folder, or no manifest in it
│   ├── BundleCorruptError               a file is missing or its SHA-256 differs
│   ├── BundlePathError                  a path that leaves the bundle folder
│   └── BundleVersionError               a manifest version this engine does not read
├── BackendError (RuntimeError)          a graph could not be opened or run
│   └── BackendUnavailableError          the device or package that was asked for is not there
├── ReporterError (RuntimeError)         the reporter asked for could not answer
│   ├── ReporterSetupError               options that cannot work: no key, no such model file
│   ├── ReporterUnreachableError         refused, no such host, connection cut
│   ├── ReporterTimeoutError             no answer within the time given
│   ├── ReporterStatusError              an HTTP status other than 200
│   ├── ReplyError                       refused, empty, malformed, too large, or contradicts
│   │                                    the caption
│   └── CircuitOpenError                 not asked: it failed too often just now
├── OfflineError (RuntimeError)          a network use while the network is forbidden
├── ChatError (ValueError)               a question or a saved conversation that cannot be used
├── OptionError (ValueError)             an argument of `Engine.load` is out of range
├── QueueFullError (RuntimeError)        too many slices wait already
├── DeadlineError (TimeoutError)         no result within the time given
├── EngineClosedError (RuntimeError)     the engine was used after `close()`
│   └── EngineForkedError                the engine was loaded before this process was forked
└── MissingExtraError (ImportError)      an optional package is not installed
"""


class IqaError(Exception):
    """Base class of every error raised on purpose by this package."""


class InputError(IqaError, ValueError):
    """The array handed over cannot be assessed."""


class ShapeError(InputError):
    """The array has the wrong rank or an unusable size."""


class NonFiniteError(InputError):
    """The array holds NaN or infinity."""


class NotHounsfieldError(InputError):
    """The values cannot be CT numbers in Hounsfield units."""


class NoAnatomyError(InputError):
    """The slice is constant or holds nothing but air."""


class ImageFileError(IqaError, ValueError):
    """A file does not give a CT slice in Hounsfield units."""


class NotCtError(ImageFileError):
    """The file is not a CT slice: another modality, a localizer, a dose page."""


class NoPixelsError(ImageFileError):
    """The file holds no pixel data, or less than its header promises."""


class UnsupportedEncodingError(ImageFileError):
    """The transfer syntax or encoding cannot give true HU values here."""


class UnreadableFileError(ImageFileError):
    """The file is missing, truncated or of no known format."""


class TemplateError(IqaError, ValueError):
    """A text does not follow the caption template, or a level is unknown."""


class BundleError(IqaError, ValueError):
    """A bundle must not be loaded."""


class BundleNotFoundError(BundleError):
    """There is no bundle at the given path."""


class BundleCorruptError(BundleError):
    """A file of the bundle is missing, changed or malformed."""


class BundlePathError(BundleError):
    """The manifest names a path outside the bundle folder."""


class BundleVersionError(BundleError):
    """The manifest's version is not one this engine reads."""


class BackendError(IqaError, RuntimeError):
    """A graph could not be opened or run."""


class BackendUnavailableError(BackendError):
    """The requested device, provider or package is not there; nothing else was used instead."""


class ReporterError(IqaError, RuntimeError):
    """The reporter asked for could not answer.

    Attributes:
        retryable: asking again soon may help.
        retry_after: seconds the server wants to be left alone, if it said so.
    """

    retryable = False
    retry_after: float | None = None


class ReporterSetupError(ReporterError):
    """The reporter's options cannot work; raised by `Engine.load`."""


class ReporterUnreachableError(ReporterError):
    """The server refused, has no address, or cut the connection."""

    retryable = True


class ReporterTimeoutError(ReporterError, TimeoutError):
    """No answer within the time of one call, or within the deadline."""

    retryable = True


class ReporterStatusError(ReporterError):
    """The server answered with an error status.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, message: str, *, status: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.retryable = status in (408, 409, 429) or status >= 500


class ReplyError(ReporterError):
    """The reply is no report: refused, empty, malformed, too large, or against the caption."""


class CircuitOpenError(ReporterError):
    """The server was not asked: it failed too often just now."""


class OfflineError(IqaError, RuntimeError):
    """Something wanted the network while it is forbidden."""


class ChatError(IqaError, ValueError):
    """A question, or a saved conversation, cannot be used."""


class OptionError(IqaError, ValueError):
    """An argument of `Engine.load` is out of range."""


class QueueFullError(IqaError, RuntimeError):
    """As many slices wait as the engine's queue holds; this one was not accepted."""


class DeadlineError(IqaError, TimeoutError):
    """No result within the time that the caller gave."""


class EngineClosedError(IqaError, RuntimeError):
    """The engine was used after it was closed."""


class EngineForkedError(EngineClosedError):
    """The engine was loaded before this process was forked: its threads did not come along."""


class MissingExtraError(IqaError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""
