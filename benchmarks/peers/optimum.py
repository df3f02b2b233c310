"""optimum-onnx: its own export and `generate`, in an environment with the transformers it needs."""

from __future__ import annotations

from importlib.metadata import version

import onnxruntime as ort
import torch
from optimum.onnxruntime import (  # type: ignore[import-not-found]  # own environment
    ORTModelForVision2Seq,
)

from .protocol import Pixels, Setup, Stopwatch, cut


class Optimum:
    """`ORTModelForVision2Seq` with KV cache and IO binding, exported from the same checkpoint."""

    def __init__(self, setup: Setup) -> None:
        self.encode = Stopwatch()
        self._setup = setup
        options = ort.SessionOptions()
        options.intra_op_num_threads = setup.threads
        torch.set_num_threads(setup.threads)
        self._model = ORTModelForVision2Seq.from_pretrained(
            setup.checkpoint, export=True, session_options=options, use_io_binding=True
        )
        self._model.encoder.forward = self.encode.wrap(self._model.encoder.forward)

    def versions(self) -> dict[str, str]:
        """See `protocol.Peer.versions`."""
        return {n: version(n) for n in ("optimum-onnx", "transformers", "onnxruntime", "torch")}

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`."""
        setup = self._setup
        rows = self._model.generate(
            pixel_values=torch.from_numpy(pixels),
            decoder_input_ids=torch.tensor([setup.prompt] * len(pixels)),
            max_new_tokens=setup.max_length - len(setup.prompt),
            num_beams=1,
            do_sample=False,
            pad_token_id=setup.end,
        )
        return cut([row[len(setup.prompt) :] for row in rows.tolist()], setup.end)
