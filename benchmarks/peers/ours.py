"""The engine's own way: a bundle, template drafts verified in few decoder passes."""

from __future__ import annotations

from importlib.metadata import version

from engine.backends.select import open_graphs
from engine.bundle.manifest import DECODER, ENCODER
from engine.bundle.store import open_bundle
from engine.decoding.draft import TemplateDrafter
from engine.decoding.verify import drafted
from engine.loading import caption_rules, graph_shapes

from .protocol import Pixels, Setup, Stopwatch


class Ours:
    """As `engine.captioner` runs it, but for the text: here token ids are wanted."""

    def __init__(self, setup: Setup) -> None:
        bundle = open_bundle(setup.bundle)
        self.encode = Stopwatch()
        self.passes = 0.0
        self._device = setup.options.get("device", "cpu")
        self._rules = caption_rules(bundle.manifest)
        self._graphs = open_graphs(
            bundle.folder / ENCODER,
            bundle.folder / DECODER,
            graph_shapes(bundle.manifest),
            device=self._device,
            threads=setup.threads,
            max_batch=setup.max_batch,
        )
        self._drafter = TemplateDrafter(
            lambda text: bundle.tokenizer.encode(text, add_special_tokens=False).ids, self._rules
        )
        self._encode = self.encode.wrap(self._graphs.encode)

    def versions(self) -> dict[str, str]:
        """See `protocol.Peer.versions`."""
        name = "onnxruntime" if self._device == "cpu" else "onnxruntime-gpu"
        return {"iqagpt": version("iqagpt"), name: version(name)}

    def run(self, pixels: Pixels) -> list[list[int]]:
        """See `protocol.Peer.run`."""
        decoder = self._encode(pixels)
        try:
            rows = drafted(decoder, self._drafter, self._rules)
        finally:
            decoder.release()
        self.passes = sum(row.passes for row in rows) / len(rows)
        return [list(row.tokens) for row in rows]
