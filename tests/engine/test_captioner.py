"""What the captioner makes of tokens: which level word belongs to which attribute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.captioner import Captioner
from engine.decoding.draft import TemplateDrafter
from engine.template import ATTRIBUTES, LEVELS, Template
from tests.engine.decoding.test_drafted import LONG, encode
from tests.support.models import ScriptedModel


class Scripted:
    """Graphs whose every row says a script."""

    def __init__(self, script: list[int]) -> None:
        self.script = script

    def encode(self, pixels: NDArray[np.float32]) -> ScriptedModel:
        return ScriptedModel([self.script] * len(pixels), LONG)


def test_slots_are_read_in_the_order_of_the_bundles_template() -> None:
    order = tuple(reversed(ATTRIBUTES))
    template = Template({name: tuple(f"{name} {level} ." for level in LEVELS) for name in order})
    levels = dict(zip(order, range(5), strict=True))
    script = [*encode(template.caption(levels)), LONG.end]
    drafter = TemplateDrafter(encode, LONG, template)
    captioner = Captioner(
        Scripted(script),  # type: ignore[arg-type]
        LONG,
        drafter=drafter,
        decode=str,
        attributes=order,
    )
    (row,) = captioner(np.zeros((1, 1, 1, 1), np.float32)).rows
    assert tuple(row.probabilities) == ATTRIBUTES
    assert row.accepted > len(script) - 2 * len(ATTRIBUTES)
    model = ScriptedModel([script], LONG)
    line = np.array([[*LONG.prompt, *script[:-1]]])
    _, seen = model.step(line, np.zeros(1, np.int64))
    for name, level in levels.items():
        place = script.index(LONG.levels[level])
        weights = np.exp(seen[0, place])
        np.testing.assert_allclose(row.probabilities[name], weights / weights.sum(), rtol=1e-5)
