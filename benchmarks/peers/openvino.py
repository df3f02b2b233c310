"""OpenVINO on the growing-cache graphs; runs in an environment that has numpy and openvino only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov  # type: ignore[import-not-found]  # lives in its own environment

from .protocol import Pixels, Setup, Stopwatch, cross_names, cut


class OpenVino:
    """Latency hint, threads as given; option `precision`: "f32", or "bf16" where the CPU has it.

    OpenVINO chooses BF16 by itself on such CPUs; only "f32" can be expected to give equal tokens.
    """

    def __init__(self, setup: Setup) -> None:
        self.encode = Stopwatch()
        self._setup = setup
        core = ov.Core()
        properties = {
            "INFERENCE_NUM_THREADS": setup.threads,
            "INFERENCE_PRECISION_HINT": setup.options.get("precision", "f32"),
            "PERFORMANCE_HINT": "LATENCY",
        }
        encoder, self._decoder = (
            core.compile_model(file, "CPU", properties).create_infer_request()
            for file in (Path(setup.bundle, "encoder.onnx"), Path(setup.graphs, "growing.onnx"))
        )
        self._cross = cross_names(port.get_any_name() for port in encoder.model_outputs)
        self._encode = self.encode.wrap(lambda pixels: _run(encoder, {"pixels": pixels}))
        self._past = {
            port.get_any_name(): port.get_partial_shape()
            for port in self._decoder.model_inputs
            if port.get_any_name().startswith("past_")
        }

    def versions(self) -> dict[str, str]:
        """See `protocol.Peer.versions`."""
        return {"openvino": ov.__version__}

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`."""
        setup, rows = self._setup, len(pixels)
        encoded = self._encode(pixels)
        feeds = {name: encoded[name] for name in self._cross}
        for name, shape in self._past.items():
            heads, width = shape[1].get_length(), shape[3].get_length()
            feeds[name] = np.zeros((rows, heads, 0, width), np.float32)
        step = np.tile(np.array(setup.prompt, np.int64), (rows, 1))
        found: list[Any] = []
        ended = np.zeros(rows, bool)
        while len(setup.prompt) + len(found) < setup.max_length and not ended.all():
            result = _run(self._decoder, {**feeds, "tokens": step})
            found.append(result.pop("next_token"))
            feeds |= {name.replace("present", "past"): value for name, value in result.items()}
            step = found[-1][:, None]
            ended |= found[-1] == setup.end
        return cut(np.stack(found, 1).tolist(), setup.end)


def _run(request: Any, feeds: dict[str, Any]) -> dict[str, Any]:
    """Inputs are shared with the request; outputs are the caller's own copies."""
    result = request.infer(feeds, share_inputs=True, share_outputs=False)
    return {port.get_any_name(): value for port, value in result.items()}
