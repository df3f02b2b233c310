"""The least time that the engine could take on this machine, so that a missed target says why.

Operations are counted from the bundle's graphs and divided by this machine's own rates, as in
`benchmarks.roofline`. Whoever checks every token of a caption has to run the decoder over each
once: one pass over the whole caption is the least, however it was drafted.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.bundle.manifest import DECODER, ENCODER
from engine.bundle.store import Bundle

from ..roofline.costs import cost
from ..roofline.model import Roof


def least(bundle: Bundle, batch: int, lengths: Iterable[int], roof: Roof) -> dict[str, float]:
    """Seconds of one batch at the roofline.

    Args:
        bundle: the engine's.
        batch: rows.
        lengths: tokens of captions, the end token included; the longest counts.
        roof: of this machine.

    Returns:
        "encode", "decode" and their sum, "total".

    Raises:
        CostError: a graph's cost cannot be told.
    """
    tokens = len(bundle.manifest.tokens.prompt) + max(lengths) - 1  # nothing follows the last one
    encode, _ = roof.bound(cost(bundle.folder / ENCODER, batch=batch))
    decode, _ = roof.bound(cost(bundle.folder / DECODER, batch=batch, length=tokens))
    return {"encode": encode, "decode": decode, "total": encode + decode}
