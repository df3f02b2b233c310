"""A verified bundle -> a captioner that is warm: the right graphs or engines for a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from .backends.base import GraphShapes
from .backends.fork import end_children_early
from .backends.select import open_graphs
from .backends.tensorrt import CompiledEngine
from .bundle.manifest import DECODER, ENCODER, Manifest
from .bundle.store import Bundle
from .captioner import Captioner
from .decoding.caption import Rules
from .decoding.draft import Drafter, NoDrafts, TemplateDrafter
from .template import CT_IQA


def open_captioner(
    bundle: Bundle, *, device: str, threads: int | None, max_batch: int
) -> Captioner:
    """Open a bundle's graphs on a device, make the buffers, and caption an empty slice.

    Args:
        bundle: from `bundle.store.open_bundle`.
        device: see `backends.select.open_graphs`.
        threads: threads per graph run on the CPU; None leaves it to the runtime.
        max_batch: the most rows one run will have.

    Raises:
        BackendUnavailableError: the device or its runtime is not there.
        BackendError: the graphs cannot be opened or run.
    """
    end_children_early()
    graphs = open_graphs(
        bundle.folder / ENCODER,
        bundle.folder / DECODER,
        graph_shapes(bundle.manifest),
        device=device,
        threads=threads,
        max_batch=max_batch,
        engines=_engines(bundle),
    )
    rules = caption_rules(bundle.manifest)
    captioner = Captioner(
        graphs,
        rules,
        drafter=_drafter(bundle, rules),
        decode=bundle.tokenizer.decode,
        attributes=(bundle.manifest.captions or CT_IQA).attributes,
    )
    image = bundle.manifest.image
    try:
        captioner(np.zeros((1, len(image.windows), image.size, image.size), np.float32))
    except BaseException:
        captioner.close()
        raise
    return captioner


def _drafter(bundle: Bundle, rules: Rules) -> Drafter:
    """Drafts by the bundle's template, if it has one."""
    template = bundle.manifest.captions
    if template is None:
        return NoDrafts()
    return TemplateDrafter(
        lambda text: bundle.tokenizer.encode(text, add_special_tokens=False).ids, rules, template
    )


def caption_rules(manifest: Manifest) -> Rules:
    """What decoding needs to know about a bundle."""
    return Rules(
        prompt=tuple(manifest.tokens.prompt),
        end=manifest.tokens.end,
        levels=tuple(manifest.tokens.levels),
        max_length=manifest.decoder.max_length,
    )


def graph_shapes(manifest: Manifest) -> GraphShapes:
    """What a backend needs to know about a bundle."""
    decoder: dict[str, Any] = manifest.decoder.model_dump(exclude={"vocab_size"})
    return GraphShapes(channels=len(manifest.image.windows), size=manifest.image.size, **decoder)


def _engines(bundle: Bundle) -> list[CompiledEngine]:
    return [
        CompiledEngine(
            file=bundle.folder / engine.file,
            graph=engine.graph,
            runtime=engine.runtime,
            runtime_version=engine.runtime_version,
            compute_capability=engine.compute_capability,
        )
        for engine in bundle.manifest.engines
    ]
