"""The checkpoint's own code in torch: eager, compiled, static cache, and FP16 on a GPU."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, StaticCache
from transformers.utils.logging import disable_progress_bar

from export.sources.detect import open_source

from .protocol import Pixels, Setup, Stopwatch


class Eager:
    """`generate` as it comes: greedy, dynamic cache, attention as transformers chooses it.

    The project's own small captioner has no cache in torch: its `generate` is the plain oracle.
    """

    def __init__(self, setup: Setup) -> None:
        torch.set_num_threads(setup.threads)
        disable_progress_bar()
        self.encode = Stopwatch()
        self.setup = setup
        source: Any = open_source(Path(setup.checkpoint))
        self.source, self.model = source, source.model
        self.prepare()
        owner, name = self.encoder()
        setattr(owner, name, self.encode.wrap(getattr(owner, name)))

    def prepare(self) -> None:
        """What a variant changes before the first run."""

    def versions(self) -> dict[str, str]:
        """See `protocol.Peer.versions`."""
        return {name: version(name) for name in ("torch", "transformers")}

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`."""
        rows: list[list[int]] = self.source.generate(torch.from_numpy(pixels))
        return rows

    def encoder(self) -> tuple[Any, str]:
        """Object and attribute of the call that encodes the picture."""
        if not isinstance(self.model, PreTrainedModel):
            return self.model, "encode"
        half = self.model.vision_model if self._blip() else self.model.encoder
        return half, "forward"

    def text_decoder(self) -> Any:
        """The text half of a Hugging Face model."""
        return self.model.text_decoder if self._blip() else self.model.decoder

    def _blip(self) -> bool:
        return hasattr(self.model, "vision_model")


class StaticCacheEager(Eager):
    """`generate` with a static cache, which transformers recommends for compiled models.

    BLIP's decoder has cross-attention but calls itself decoder-only, so `cache_implementation=
    "static"` alone gives both attentions one cache and fails; the two caches are handed in.
    """

    def prepare(self) -> None:
        """Every `generate` gets a fresh static cache."""
        generate, config = self.model.generate, self.text_decoder().config

        def with_cache(**given: Any) -> Any:
            own = StaticCache(config=config, max_cache_len=self.setup.max_length)
            return generate(cache=EncoderDecoderCache(own, DynamicCache(config=config)), **given)

        self.model.generate = with_cache


class Compiled(StaticCacheEager):
    """Both halves through torch.compile (inductor), with a static cache, so that shapes hold."""

    def prepare(self) -> None:
        """Compile what `generate` calls."""
        owner, name = self.encoder()
        setattr(owner, name, torch.compile(getattr(owner, name)))
        if isinstance(self.model, PreTrainedModel):
            super().prepare()
            text = self.text_decoder()
            text.forward = torch.compile(text.forward)
        else:
            self.model.decode = torch.compile(self.model.decode, dynamic=True)


class HalfGpu(Eager):
    """FP16 on CUDA. It has never run."""

    def prepare(self) -> None:
        """Move the model; new tensors are made on the GPU from here on."""
        torch.set_default_device("cuda")
        self.model.half().to("cuda")
        owner, name = self.encoder()
        encode = getattr(owner, name)

        def finished(*args: Any, **kwargs: Any) -> Any:
            result = encode(*args, **kwargs)
            torch.cuda.synchronize()
            return result

        setattr(owner, name, finished)

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`; the ids come back to the CPU, which waits for all."""
        half = torch.from_numpy(pixels).to("cuda", torch.float16)
        rows: list[list[int]] = self.source.generate(half)
        return rows
