"""A bundle's stages, timed here: encoder, verify pass over a whole draft, single step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from engine.backends.select import open_graphs
from engine.bundle.manifest import DECODER, ENCODER
from engine.bundle.store import Bundle
from engine.decoding.draft import TemplateDrafter
from engine.loading import caption_rules, graph_shapes
from engine.template import ATTRIBUTES

from ..harness import timing as harness
from .costs import Cost, cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One kind of graph run.

    Attributes:
        name: encode, verify (a whole draft in one pass) or step (one token a row).
        batch: rows.
        length: tokens a row; 1 for the encoder.
        cost: what the graph has to do.
        seconds: median of `runs` runs.
    """

    name: str
    batch: int
    length: int
    cost: Cost
    seconds: float
    runs: int


def measure(
    bundle: Bundle, batch: int, *, threads: int | None, rule: harness.StopRule
) -> Iterator[Stage]:
    """Time the three stages of a bundle at one batch size.

    Args:
        bundle: from `open_bundle`.
        batch: rows.
        threads: threads per graph run.
        rule: when a stage has run long enough.

    Raises:
        BackendError: a graph cannot be opened or run.
        CostError: a graph's cost cannot be told.
    """
    rules, shapes = caption_rules(bundle.manifest), graph_shapes(bundle.manifest)
    drafter = TemplateDrafter(
        lambda text: bundle.tokenizer.encode(text, add_special_tokens=False).ids, rules
    )
    draft = [*rules.prompt, *drafter.draft((), (2,) * len(ATTRIBUTES))][: rules.max_length]
    encoder, decoder = bundle.folder / ENCODER, bundle.folder / DECODER
    graphs = open_graphs(encoder, decoder, shapes, device="cpu", threads=threads, max_batch=batch)
    pixels = np.zeros((batch, shapes.channels, shapes.size, shapes.size), np.float32)
    start = np.zeros(batch, np.int64)

    def stage(name: str, file: Path, length: int, work: Callable[[], object]) -> Stage:
        times = harness.measure(lambda _: work(), rule).seconds
        return Stage(
            name=name,
            batch=batch,
            length=length,
            cost=cost(file, batch=batch, length=length),
            seconds=median(times),
            runs=len(times),
        )

    try:
        yield stage("encode", encoder, 1, lambda: graphs.encode(pixels).release())
        rows = graphs.encode(pixels)
        for name, tokens in (("verify", draft), ("step", draft[:1])):
            line = np.tile(np.array(tokens, np.int64), (batch, 1))
            yield stage(name, decoder, len(tokens), partial(rows.step, line, start))
        rows.release()
    finally:
        graphs.close()
