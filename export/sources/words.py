"""Which tokens of a tokenizer are the level words, seen where captions really have them."""

from __future__ import annotations

from tokenizers import Tokenizer

from engine.template import ATTRIBUTES, LEVELS, SUBJECTS, caption

from ..errors import CheckpointError


def level_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of the level words bad … excellent, as captions of the template spell them.

    Raises:
        CheckpointError: the tokenizer splits a level word, merges it with its neighbours, or gives
            two of them the same token.
    """
    ids = [_level_id(tokenizer, level) for level in range(len(LEVELS))]
    if len(set(ids)) < len(ids):
        raise CheckpointError(
            f"the tokenizer gives level words the same tokens ({', '.join(map(str, ids))}); it is "
            "not the one that the captioner was trained with"
        )
    return ids


def _level_id(tokenizer: Tokenizer, level: int) -> int:
    """The one token that stands for a level at all slots of a caption."""
    text, word = caption(dict.fromkeys(ATTRIBUTES, level)), LEVELS[level]
    encoding = tokenizer.encode(text, add_special_tokens=False)
    found: set[int] = set()
    for subject in SUBJECTS.values():
        first = text.index(f"{subject} is ") + len(f"{subject} is ")
        last = first + len(word)
        slot = [
            (token, text[begin:end].strip())
            for token, (begin, end) in zip(encoding.ids, encoding.offsets, strict=True)
            if begin < last and end > first
        ]
        if len(slot) != 1 or slot[0][1] != word:
            raise CheckpointError(
                f"the tokenizer writes the level word {word!r} as {[part for _, part in slot]}; "
                "it must be one token: add it with tokenizer.add_tokens, resize the model's "
                "embeddings and fine-tune"
            )
        found.add(slot[0][0])
    if len(found) != 1:
        raise CheckpointError(f"the tokenizer has several tokens for {word!r}: {sorted(found)}")
    return found.pop()
