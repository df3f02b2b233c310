"""Caption measures by the COCO caption toolkit: BLEU-4, ROUGE-L, CIDEr, METEOR 1.5.

METEOR is the toolkit's Java program with its own paraphrase table; where there is no Java it is
left out, and the result says so. Captions are split into lower-case words without punctuation.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

_WORD = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


def caption_measures(said: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
    """Corpus scores of captions, one reference each: BLEU-4, ROUGE-L, METEOR in 0…1, CIDEr in 0…10.

    Also `exact`: the share of captions that equal their reference.
    """
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    theirs = {i: [_words(text)] for i, text in enumerate(references)}
    ours = {i: [_words(text)] for i, text in enumerate(said)}
    found: dict[str, float | str] = {
        "n": float(len(said)),
        "exact": sum(a == b for a, b in zip(said, references, strict=True)) / len(said),
        "bleu4": float(Bleu(4).compute_score(theirs, ours, verbose=0)[0][3]),
        "rouge_l": float(Rouge().compute_score(theirs, ours)[0]),
        "cider": float(Cider().compute_score(theirs, ours)[0]),
    }
    if shutil.which("java") is None:
        return {**found, "meteor": "not measured: METEOR needs Java"}
    with _meteor() as meteor:
        found["meteor"] = float(meteor.compute_score(theirs, ours)[0])
    return found


@contextlib.contextmanager
def _meteor() -> Iterator[Any]:
    """The toolkit's Java process, ended and its pipes closed afterwards."""
    from pycocoevalcap.meteor.meteor import Meteor

    meteor = Meteor()
    try:
        yield meteor
    finally:
        meteor.meteor_p.kill()
        meteor.meteor_p.communicate()


def _words(caption: str) -> str:
    return " ".join(_WORD.findall(caption.lower()))
