"""The default bundle on the example slices: the same captions as greedy, in few passes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends.select import open_graphs
from engine.bundle.manifest import DECODER, ENCODER
from engine.bundle.store import open_bundle
from engine.decoding.draft import TemplateDrafter
from engine.decoding.greedy import greedy
from engine.decoding.verify import drafted
from engine.loading import caption_rules, graph_shapes
from engine.prepare import prepare


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_drafted_captions_equal_greedy_ones(slices: list[NDArray[np.float32]], batch: int) -> None:
    bundle = open_bundle()
    rules, spec = caption_rules(bundle.manifest), bundle.manifest.image.spec()
    graphs = open_graphs(
        bundle.folder / ENCODER,
        bundle.folder / DECODER,
        graph_shapes(bundle.manifest),
        device="cpu",
        threads=None,
        max_batch=batch,
    )
    drafter = TemplateDrafter(
        lambda text: bundle.tokenizer.encode(text, add_special_tokens=False).ids, rules
    )
    turned = [hu[::-1] for hu in slices]
    pixels = [prepare(hu, spec) for hu in (*slices, *turned)]
    passes = []
    for first in range(0, len(pixels), batch):
        rows = np.stack(pixels[first : first + batch])
        wanted = greedy(graphs.encode(rows), rules)
        found = drafted(graphs.encode(rows), drafter, rules)
        assert [row.tokens for row in found] == [row.tokens for row in wanted]
        for have, want in zip(found, wanted, strict=True):
            np.testing.assert_allclose(have.level_logprobs, want.level_logprobs, atol=1e-3)
        passes += [row.passes for row in found]
    assert sum(passes) <= 2 * len(pixels)
    graphs.close()
