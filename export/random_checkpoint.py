"""`python -m export.random_checkpoint KIND OUT`: a checkpoint of true size with random weights.

For benchmarks and tests of speed, size and parity where no fine-tuned weights can be had. Only the
output head is fitted, in closed form on the example slices of a checkout: after any caption's
beginning it continues as the template does, and at the level slots it names `LEVELS_NAMED`,
whatever slice and levels came before. A first draft is then wrong at the first slot where its guess
is; what the verifying pass says at the other slots is right. The bundle says what the scores are
worth (`score_origin` "random weights").
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    GPT2Config,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)
from transformers.utils.logging import disable_progress_bar

from engine.prepare import prepare
from engine.template import ATTRIBUTES, LEVELS, caption
from engine.whole_file import written_whole
from training.tokenizer import build_tokenizer

from . import slices
from .errors import ExportError
from .sources.base import Source
from .sources.detect import open_source

LEVELS_NAMED: Final = (1, 4, 3, 2, 2)
"""Of each attribute; only one of them is what the engine's first draft guesses (3, good)."""
FITTED: Final = "template.json"
"""Written last: a checkpoint without it was not made to its end."""
_BATCH: Final = 8
_BATCHES: Final = 8
_SEEING: Final = {"initializer_range": 0.02}
"""As a ViT's encoder starts; transformers' own start for BLIP's, 1e-10, hardly sees its input."""
_WEIGHT: Final = 4.0
"""Of the caption that is to come out, against those of chance levels."""


def _blip(vision: dict[str, Any], text: dict[str, int]) -> Any:
    config = BlipConfig(
        vision_config={"image_size": 384, **vision},
        text_config={
            "tie_word_embeddings": False,
            "encoder_hidden_size": vision["hidden_size"],
            **text,
        },
        tie_word_embeddings=False,
    )
    return BlipForConditionalGeneration(config)


def _blip_base() -> Any:
    """Salesforce/blip-image-captioning-base: 224 M parameters, 384 px (247 M with a free head)."""
    return _blip({"hidden_size": 768, "intermediate_size": 3072}, {})


def _blip_large() -> Any:
    """Salesforce/blip-image-captioning-large: a ViT-L/16 before the same decoder."""
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    return _blip(vision, {})


def _blip_small() -> Any:
    """Six layers, 192 px, 1,000 words: small enough to be fine-tuned on two cores."""
    small = {"hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 4}
    words = {"vocab_size": 1000, "bos_token_id": 998, "max_position_embeddings": 128}
    vision = {**_SEEING, "image_size": 192, "num_hidden_layers": 6}
    return _blip({**small, **vision}, {**small, **words, "num_hidden_layers": 3})


def _blip_tiny() -> Any:
    """Two layers, 64 px, 1,000 words: for tests."""
    small = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2}
    words = {"vocab_size": 1000, "bos_token_id": 998, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 4}
    return _blip({**small, **heads, **_SEEING, "image_size": 64}, {**small, **heads, **words})


def _vit_gpt2(vision: dict[str, int], text: dict[str, int]) -> Any:
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        ViTConfig(**vision),
        GPT2Config(add_cross_attention=True, is_decoder=True, tie_word_embeddings=False, **text),
    )
    config.tie_word_embeddings = False
    model: Any = VisionEncoderDecoderModel(config)
    model.generation_config.decoder_start_token_id = config.decoder.bos_token_id
    return model


def _vit_gpt2_base() -> Any:
    """ViT-B/16 at 224 px and GPT-2 (124 M), as nlpconnect/vit-gpt2-image-captioning."""
    return _vit_gpt2({}, {})


def _vit_gpt2_tiny() -> Any:
    """Two layers, 64 px, 1,000 words: for tests."""
    vision = {"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 2}
    words = {"vocab_size": 1000, "bos_token_id": 998, "eos_token_id": 999, "n_positions": 128}
    return _vit_gpt2(
        {**vision, "num_attention_heads": 4, "image_size": 64},
        {"n_embd": 256, "n_layer": 2, "n_head": 4, **words},
    )


KINDS: Final[dict[str, Callable[[], Any]]] = {
    "blip-base": _blip_base,
    "blip-large": _blip_large,
    "blip-small": _blip_small,
    "blip-tiny": _blip_tiny,
    "vit-gpt2-base": _vit_gpt2_base,
    "vit-gpt2-tiny": _vit_gpt2_tiny,
}


def write(kind: str, out: Path, seed: int = 7, *, fitted: bool = True) -> None:
    """Write a checkpoint folder as `model.save_pretrained` would.

    Args:
        kind: one of `KINDS`.
        out: the folder.
        seed: of the weights.
        fitted: whether the output head is; without, it is a start for `export.finetune`.

    Raises:
        ExportError: the head cannot be fitted.
    """
    torch.manual_seed(seed)
    model = KINDS[kind]().eval()
    text = text_model(model).config
    first, end = text.bos_token_id, getattr(text, "sep_token_id", None) or text.eos_token_id
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    _tokenizer(text.vocab_size, {first: "[BOS]", end: "[EOS]"}).save(str(out / "tokenizer.json"))
    with written_whole(out / "training.json") as part:
        part.write_text(json.dumps({"name": f"random-{kind}", "score_origin": "random weights"}))
    if fitted:
        _fit_head(out, seed)


def _tokenizer(size: int, special: dict[int, str]) -> Tokenizer:
    """The project's words, placed among the model's ids clear of its special tokens."""
    words = [w for w in build_tokenizer().get_vocab() if not w.startswith("[")]
    free = (i for i in range(size // 2, size) if i not in special)
    vocabulary = {"[UNK]": 0, **{name: i for i, name in special.items()}}
    vocabulary |= dict(zip(sorted(words), free, strict=False))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = build_tokenizer().pre_tokenizer
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    return tokenizer


def text_model(model: Any) -> Any:
    """The text half of either kind of model."""
    return model.text_decoder if hasattr(model, "text_decoder") else model.decoder


@torch.no_grad()
def _fit_head(folder: Path, seed: int) -> None:
    """Give the head the ridge solution that writes the template's captions, and save again.

    Raises:
        ExportError: the captions do not come out.
    """
    source: Any = open_source(folder)
    head = text_model(source.model).get_output_embeddings()
    spec = source.facts.image.spec()
    examples = slices.read(slices.EXAMPLES).parity
    pixels = torch.from_numpy(np.stack([prepare(hu, spec) for hu in examples]))
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
        raise ExportError(f"{folder}: the fitted head does not write the template's caption")
    source.model.save_pretrained(folder)
    with written_whole(folder / FITTED) as part:
        part.write_text(json.dumps({"levels": LEVELS_NAMED}))


def _line(source: Source, levels: tuple[int, ...]) -> list[int]:
    """Prompt, caption and end."""
    tokens = source.facts.tokens
    text = caption(dict(zip(ATTRIBUTES, levels, strict=True)))
    return [*tokens.prompt, *source.encode(text), tokens.end]


def _states(
    source: Source, head: Any, pixels: Tensor, rng: np.random.Generator
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


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m export.random_checkpoint",
        description=__doc__.splitlines()[0].split(": ", 1)[1] if __doc__ else None,
        epilog="example: python -m export.random_checkpoint blip-base runs/blip-base",
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("out", type=Path, help="checkpoint folder")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--no-head", action="store_true", help="leave the output head random, too: for fine-tuning"
    )
    args = parser.parse_args(arguments)
    disable_progress_bar()
    write(args.kind, args.out, args.seed, fitted=not args.no_head)
    size = sum(f.stat().st_size for f in args.out.glob("*.safetensors")) / 1e6
    sys.stdout.write(f"{args.out}: {args.kind}, random weights, {size:.0f} MB\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
