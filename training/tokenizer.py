"""The default captioner's tokenizer: a word a token, vocabulary from every possible caption."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from engine.template import ATTRIBUTES, LEVELS, clause

SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[UNK]")


def build_tokenizer() -> Tokenizer:
    """Word-level tokenizer whose decoding gives a caption back letter by letter."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True),
            pre_tokenizers.Split(Regex(r"[.,:]"), behavior="isolated"),
        ]
    )
    sentences = [clause(name, level) for name in ATTRIBUTES for level in range(len(LEVELS))]
    words = [word for text in sentences for word, _ in splitter.pre_tokenize_str(text)]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*SPECIAL, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer
