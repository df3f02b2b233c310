"""What all Hugging Face folders have in common: weights, tokenizer, image processor, generation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, GenerationConfig, PreTrainedModel

from engine.bundle.manifest import ImagePart, WindowPart
from engine.prepare import Resampling, Window
from training.model import DEFAULT_WINDOWS

from ..about import read as read_about
from ..errors import CheckpointError
from .base import Options

Model = TypeVar("Model", bound=PreTrainedModel)

_RESAMPLING: Final[dict[int, Resampling]] = {
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
}
_UNUSED: Final = ("pooler", "position_ids")
"""Parts of checkpoints that captioning never looks at; they may lack or be left over."""

_GREEDY: Final[dict[str, tuple[object, ...]]] = {
    "num_beams": (None, 1),
    "do_sample": (None, False),
    "repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "encoder_repetition_penalty": (None, 1.0),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "bad_words_ids": (None,),
    "sequence_bias": (None,),
    "suppress_tokens": (None,),
    "begin_suppress_tokens": (None,),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1.0),
    "penalty_alpha": (None, 0.0),
}
"""Generation settings under which `generate` is plain greedy decoding."""


def load_model(kind: type[Model], folder: Path) -> Model:
    """Read weights (safetensors only) into a model in evaluation mode, FP32.

    Raises:
        CheckpointError: config and weights disagree.
    """
    try:
        model, report = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except Exception as error:  # transformers raises whatever a broken file provokes
        raise CheckpointError(f"{folder} cannot be loaded as {kind.__name__}: {error}") from error
    for fault in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        names = sorted(str(n) for n in report[fault] if not any(u in str(n) for u in _UNUSED))
        if names:
            raise CheckpointError(
                f"{folder}: config.json and the weights disagree: {len(names)} "
                f"{fault.replace('_', ' ')}, e.g. {', '.join(names[:3])}; save both together with "
                "model.save_pretrained"
            )
    return cast(Model, model.eval())


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of a folder, one or several shards."""
    return tuple(sorted(folder.glob("*.safetensors")))


def read_tokenizer(folder: Path) -> Tokenizer:
    """The folder's tokenizer as the runtime reads it, without truncation and padding.

    Raises:
        CheckpointError: there is none, or only one that needs Python code to run.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif any((folder / name).is_file() for name in ("vocab.txt", "vocab.json")):
            slow = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            tokenizer = Tokenizer.from_str(slow.backend_tokenizer.to_str())
        else:
            raise CheckpointError(
                f"{folder} has no tokenizer; put it there with tokenizer.save_pretrained(folder)"
            )
    except CheckpointError:
        raise
    except Exception as error:  # the tokenizers package raises bare Exception
        raise CheckpointError(f"the tokenizer of {folder} cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def check_greedy(found: GenerationConfig) -> None:
    """Refuse generation settings that no arg-max in a graph can reproduce.

    Raises:
        CheckpointError: names the settings.
    """
    odd = {
        name: getattr(found, name, None)
        for name, neutral in _GREEDY.items()
        if getattr(found, name, None) not in neutral
    }
    if odd:
        listed = ", ".join(f"{name}={value}" for name, value in odd.items())
        raise CheckpointError(
            f"this model's generation settings are not greedy decoding ({listed}), which is what "
            "the runtime does; take them out of generation_config.json (or config.json) and check "
            "that the captions are still good"
        )


def one_id(found: object, what: str) -> int:
    """A token id from a configuration that may hold none, one, or a list.

    Raises:
        CheckpointError: it is not exactly one.
    """
    if isinstance(found, list) and len(found) == 1:
        (found,) = found
    if not isinstance(found, int):
        raise CheckpointError(f"the configuration gives {found!r} as {what}; it must be one id")
    return found


def image_part(
    folder: Path,
    size: int,
    channels: int,
    normalisation: tuple[list[float], list[float]],
    options: Options,
) -> ImagePart:
    """How pixels are made, from the image processor's file and the windows asked for.

    Args:
        folder: the checkpoint.
        size: side of the encoder's input.
        channels: of the encoder's input.
        normalisation: mean and deviation where the folder has no image processor.
        options: may name the windows.

    Raises:
        CheckpointError: the number of windows does not fit, or the image processor's file is
            malformed.
    """
    windows = options.windows or _stated_windows(folder) or DEFAULT_WINDOWS
    if len(windows) != channels:
        raise CheckpointError(f"{len(windows)} windows for {channels} channels; name one for each")
    try:
        return _image_part(_processor(folder), size, windows, normalisation)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{folder}: the image processor's file does not fit {channels} channels; save it again "
            f"with processor.save_pretrained. {error!r}"
        ) from error


def _image_part(
    raw: dict[str, Any],
    size: int,
    windows: tuple[Window, ...],
    normalisation: tuple[list[float], list[float]],
) -> ImagePart:
    mean, std = raw.get("image_mean", normalisation[0]), raw.get("image_std", normalisation[1])
    if not raw.get("do_normalize", True):
        mean, std = [0.0] * len(windows), [1.0] * len(windows)
    return ImagePart(
        size=size,
        windows=[
            WindowPart(low=w.low, high=w.high, mean=float(m), std=float(s))
            for w, m, s in zip(windows, mean, std, strict=True)
        ],
        resampling=_RESAMPLING[raw.get("resample", 3)],
    )


def _processor(folder: Path) -> dict[str, Any]:
    """The image processor's settings; empty if the folder has none."""
    whole = folder / "processor_config.json"
    if whole.is_file():
        inner = json.loads(whole.read_text()).get("image_processor")
        if isinstance(inner, dict):
            return inner
    file = folder / "preprocessor_config.json"
    return dict(json.loads(file.read_text())) if file.is_file() else {}


def _stated_windows(folder: Path) -> tuple[Window, ...]:
    """The windows that `training.json` names, if it does."""
    return tuple(Window(low=low, high=high) for low, high in read_about(folder).windows or ())
