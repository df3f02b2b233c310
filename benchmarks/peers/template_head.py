"""`python -m benchmarks.peers.template_head CHECKPOINT`: let a random checkpoint obey the template.

`export.random_checkpoint` fits the head of a random model to the template's captions, but where a
clause depends on a level word some tokens back, a random transformer often continues with another
level's clause; then drafts are refused as no fine-tuned model would refuse them. Here the head is
fitted again, in closed form, on the example slices: after any caption's beginning it continues as
the template does, and at the level slots it names the levels of `LEVELS_NAMED`, whatever levels
came before, as a model does that reads them off the picture. A first draft is then wrong at the
first slot where the guess is; what the verify pass says at the other slots is right.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from engine.errors import IqaError
from engine.prepare import prepare
from engine.template import ATTRIBUTES, LEVELS, caption
from engine.whole_file import written_whole
from export.random_checkpoint import text_model
from export.sources.detect import open_source

from ..harness.slices import example_slices

LEVELS_NAMED: Final = (1, 4, 3, 2, 2)
"""Of each attribute; only one of them is what the engine's first draft guesses (3, good)."""
FITTED: Final = "template.json"
_BATCH: Final = 8
_BATCHES: Final = 8
_WEIGHT: Final = 4.0
"""Of the caption that is to come out, against those of chance levels."""


@torch.no_grad()
def fit(folder: Path, seed: int = 7) -> None:
    """Refit the head and save; `template.json` says that it was done.

    Raises:
        IqaError: the captions still do not come out.
    """
    source: Any = open_source(folder)
    head = text_model(source.model).get_output_embeddings()
    spec = source.facts.image.spec()
    pixels = torch.from_numpy(np.stack([prepare(hu, spec) for hu in example_slices()]))
    states, targets, weights = _states(source, head, pixels, np.random.default_rng(seed))
    ids = targets.unique()
    wanted = 20.0 * (targets[:, None] == ids).double()
    if head.bias is not None:
        states = torch.cat([states, torch.ones(len(states), 1)], 1)
    weighted = (states.double() * weights[:, None]).T
    gram = weighted @ states.double()
    ridge = 1e-7 * gram.trace() / len(gram)
    solution = torch.linalg.solve(gram + ridge * torch.eye(len(gram)), weighted @ wanted).T.float()
    head.weight.zero_()
    head.weight[ids] = solution[:, : head.weight.shape[1]]
    if head.bias is not None:
        head.bias.fill_(-20.0)
        head.bias[ids] = solution[:, -1]
    right = _line(source, LEVELS_NAMED)[len(source.facts.tokens.prompt) :]
    if any(row != right for row in source.generate(pixels)):
        raise IqaError(f"{folder}: the fitted head does not write the template's caption")
    source.model.save_pretrained(folder)
    with written_whole(folder / FITTED) as part:
        part.write_text(json.dumps({"levels": LEVELS_NAMED, "captions": _BATCH * _BATCHES}))


def _line(source: Any, levels: tuple[int, ...]) -> list[int]:
    """Prompt, caption and end."""
    tokens = source.facts.tokens
    text = caption(dict(zip(ATTRIBUTES, levels, strict=True)))
    ids = source.tokenizer.encode(text, add_special_tokens=False).ids
    return [*tokens.prompt, *ids, tokens.end]


def _states(
    source: Any, head: Any, pixels: Tensor, rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """What reaches the head along captions, (N, width), the tokens wanted there, and weights."""
    tokens = source.facts.tokens
    seen: list[Tensor] = []
    targets: list[int] = []
    weights: list[float] = []
    kept: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    draft = (LEVELS.index("good"),) * len(ATTRIBUTES)
    for batch in range(_BATCHES):
        chance = rng.integers(len(LEVELS), size=(_BATCH - 2, len(ATTRIBUTES))).tolist()
        rows = [_line(source, tuple(levels)) for levels in (LEVELS_NAMED, draft, *chance)]
        longest = max(map(len, rows))
        line = torch.tensor([row + [tokens.end] * (longest - len(row)) for row in rows])
        which = torch.arange(batch, batch + _BATCH) % len(pixels)
        source.logits(pixels[which], line[:, :-1])
        for index, row in enumerate(rows):
            kept.append(seen[-1][index, : len(row) - 1])
            targets += _wanted(row[1:], tokens.levels)
            weights += [_WEIGHT if index == 0 else 1.0] * (len(row) - 1)
    hook.remove()
    return torch.cat(kept), torch.tensor(targets), torch.tensor(weights, dtype=torch.float64)


def _wanted(following: list[int], levels: list[int]) -> list[int]:
    """The caption's own next tokens, but at level slots the levels to be named."""
    named = iter(LEVELS_NAMED)
    return [levels[next(named)] if token in levels else token for token in following]


if __name__ == "__main__":
    fit(Path(sys.argv[1]))
