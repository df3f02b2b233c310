"""A model file served on this machine: llama.cpp in this process, OpenAI-compatible, loopback."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, ReporterSetupError

_CONTEXT = 8192


class LocalServer:
    """llama.cpp's server on 127.0.0.1, on a free port, behind a key of its own.

    Attributes:
        base_url: where it answers.
        api_key: made anew for each server; other processes of this machine do not know it.
        model: the file's name.
        digest: changes with the file: name, size and time of change.
    """

    def __init__(self, gguf: Path, threads: int | None) -> None:
        """Load the model; takes about a second for 100 MB.

        Raises:
            MissingExtraError: the extra `local` is not installed.
            ReporterSetupError: there is no such file, or llama.cpp cannot load it.
        """
        try:
            import xllamacpp
        except ImportError as error:
            raise MissingExtraError(
                'a local model needs the extra "local": pip install "iqagpt[local]"'
            ) from error
        if not gguf.is_file():
            raise ReporterSetupError(f"there is no model file {gguf}")
        self.api_key = secrets.token_urlsafe(24)
        self.model = gguf.name
        facts = gguf.stat()
        self.digest = f"{gguf.name} {facts.st_size} {facts.st_mtime_ns}"
        try:
            self._server: Any = xllamacpp.Server(
                _parameters(xllamacpp.CommonParams(), gguf, self.api_key, threads)
            )
        except RuntimeError as error:
            raise ReporterSetupError(f"llama.cpp cannot load {gguf.name}: {error}") from error
        self.base_url = f"{self._server.listening_address}/v1"

    def close(self) -> None:
        """Stop the server and free the model; safe to call twice."""
        self._server = None


def _parameters(parameters: Any, gguf: Path, api_key: str, threads: int | None) -> Any:
    # llama.cpp's threads spin while they wait for each other: on a busy machine a thread too many
    # made a token 150 times slower, so half of the cores it is.
    count = threads or max(1, (os.cpu_count() or 2) // 2)
    parameters.model.path = str(gguf)
    parameters.model_alias = {gguf.name}  # else replies name the whole path
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [api_key]
    parameters.n_ctx = _CONTEXT
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = count
    parameters.cpuparams_batch.n_threads = count
    parameters.endpoint_slots = False  # it would show other requests' texts
    parameters.ui = False
    parameters.verbosity = -1
    parameters.offline = True
    return parameters
