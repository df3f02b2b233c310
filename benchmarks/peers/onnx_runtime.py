"""ONNX Runtime on graphs of the usual shapes: without a cache, and with one that grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from .protocol import Pixels, Setup, Stopwatch, cross_names, cut


class NoCache:
    """Every token runs the whole caption so far, cross-attention's projections included."""

    def __init__(self, setup: Setup) -> None:
        self.encode = Stopwatch()
        self._setup = setup
        self._decoder = _open(setup, Path(setup.graphs, "whole.onnx"))
        encoder = _open(setup, Path(setup.graphs, "features.onnx"))
        self._encode = self.encode.wrap(
            lambda pixels: encoder.run_with_ort_values(["features"], {"pixels": _value(pixels)})[0]
        )

    def versions(self) -> dict[str, str]:
        """See `protocol.Peer.versions`."""
        return {"onnxruntime": ort.__version__}

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`."""
        setup, features = self._setup, self._encode(pixels)
        tokens = np.tile(np.array(setup.prompt, np.int64), (len(pixels), 1))
        while tokens.shape[1] < setup.max_length:
            (found,) = self._decoder.run_with_ort_values(
                ["next_token"], {"tokens": _value(tokens), "features": features}
            )
            tokens = np.concatenate([tokens, found.numpy()[:, None]], 1)
            if (tokens[:, len(setup.prompt) :] == setup.end).any(1).all():
                break
        return cut(tokens[:, len(setup.prompt) :].tolist(), setup.end)


class GrowingCache:
    """One token a step; keys and values are concatenated in the graph and fed back uncopied.

    Option `provider`: "TensorrtExecutionProvider" runs both graphs by TensorRT in FP16.
    """

    def __init__(self, setup: Setup) -> None:
        self.encode = Stopwatch()
        self._setup = setup
        self._decoder = _open(setup, Path(setup.graphs, "growing.onnx"))
        encoder = _open(setup, Path(setup.bundle, "encoder.onnx"))
        self._cross = cross_names(arg.name for arg in encoder.get_outputs())
        self._encode = self.encode.wrap(
            lambda pixels: encoder.run_with_ort_values(self._cross, {"pixels": _value(pixels)})
        )
        self._past = {
            arg.name: arg.shape
            for arg in self._decoder.get_inputs()
            if arg.name.startswith("past_")
        }
        self._outputs = [arg.name for arg in self._decoder.get_outputs()]

    def versions(self) -> dict[str, str]:
        """See `protocol.Peer.versions`."""
        return {"onnxruntime": ort.__version__}

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`."""
        setup, rows = self._setup, len(pixels)
        feeds = dict(zip(self._cross, self._encode(pixels), strict=True))
        for name, (_, heads, _, width) in self._past.items():
            feeds[name] = _value(np.zeros((rows, heads, 0, width), np.float32))
        step = np.tile(np.array(setup.prompt, np.int64), (rows, 1))
        found: list[Any] = []
        ended = np.zeros(rows, bool)
        while len(setup.prompt) + len(found) < setup.max_length and not ended.all():
            feeds["tokens"] = _value(step)
            result = self._decoder.run_with_ort_values(self._outputs, feeds)
            for name, value in zip(self._outputs[1:], result[1:], strict=True):
                feeds[name.replace("present", "past")] = value
            found.append(result[0].numpy())
            step = found[-1][:, None]
            ended |= found[-1] == setup.end
        return cut(np.stack(found, 1).tolist(), setup.end)


def _value(array: Any) -> ort.OrtValue:
    return ort.OrtValue.ortvalue_from_numpy(array)


def _open(setup: Setup, file: Path) -> ort.InferenceSession:
    """A session with ONNX Runtime's own defaults, but for the threads.

    Raises:
        RuntimeError: the provider that was asked for did not take the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = setup.threads
    options.log_severity_level = 3
    provider = setup.options.get("provider", "CPUExecutionProvider")
    settings = {"trt_fp16_enable": True} if provider.startswith("Tensorrt") else {}
    session = ort.InferenceSession(str(file), options, providers=[(provider, settings)])
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"{provider} is not available: ONNX Runtime took another one")
    return session
