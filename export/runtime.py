"""The engine's CPU backend over graphs under export, for which there is no manifest yet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.backends.base import CacheType, Graphs, GraphShapes
from engine.backends.select import open_graphs
from engine.bundle.manifest import DECODER, ENCODER
from engine.decoding.caption import Rules
from engine.decoding.draft import Drafter, NoDrafts, TemplateDrafter
from engine.template import Template

from .sources.base import Source

BATCH: Final = 8
"""Most rows of a run."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Opened graphs, and what decoding with them takes."""

    graphs: Graphs
    rules: Rules
    drafter: Drafter


@contextmanager
def opened(
    source: Source, folder: Path, *, template: Template | None, cache: CacheType = "float32"
) -> Iterator[Runtime]:
    """Open the graphs of a folder.

    Args:
        source: where they come from.
        folder: holds them.
        template: what drafts come from; None: nothing is drafted.
        cache: type of their keys and values.

    Raises:
        BackendError: they cannot be opened, or contradict the source's facts.
    """
    image, decoder, tokens = source.facts.image, source.facts.decoder, source.facts.tokens
    shapes = GraphShapes(
        channels=len(image.windows),
        size=image.size,
        cache=cache,
        **decoder.model_dump(exclude={"vocab_size", "cache"}),
    )
    rules = Rules(
        prompt=tuple(tokens.prompt),
        end=tokens.end,
        levels=tuple(tokens.levels),
        max_length=decoder.max_length,
    )
    files = folder / ENCODER, folder / DECODER
    graphs = open_graphs(*files, shapes, device="cpu", threads=None, max_batch=BATCH)
    drafter = TemplateDrafter(source.encode, rules, template) if template else NoDrafts()
    try:
        yield Runtime(graphs, rules, drafter)
    finally:
        graphs.close()
