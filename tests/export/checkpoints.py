"""Checkpoints for the export's tests: random weights of every kind that an adapter reads."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    DeiTConfig,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
)

from engine.template import ATTRIBUTES, LEVELS, caption

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def deit_bert(folder: Path) -> None:
    """DeiT (with its distillation token) and BERT (with token types), and a slow tokenizer."""
    torch.manual_seed(5)
    texts = (caption(dict.fromkeys(ATTRIBUTES, level)) for level in range(len(LEVELS)))
    words = {word for text in texts for word in text.lower().replace("-", " - ").split()}
    vocabulary = [*_SPECIAL, *".:-", *sorted({word.strip(".:-") for word in words} - {""})]
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        DeiTConfig(**small, intermediate_size=64, image_size=64),
        BertConfig(
            **{**small, "hidden_size": 32},  # narrower: the encoder's features are projected
            intermediate_size=64,
            vocab_size=len(vocabulary),
            is_decoder=True,
            add_cross_attention=True,
            max_position_embeddings=40,
        ),
    )
    model = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = vocabulary.index("[CLS]")
    model.generation_config.eos_token_id = vocabulary.index("[SEP]")
    model.generation_config.pad_token_id = vocabulary.index("[PAD]")
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
