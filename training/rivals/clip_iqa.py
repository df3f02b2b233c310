"""CLIP-IQA and CLIP-IQA+ on a CLIP in a local folder; nothing is downloaded.

CLIP-IQA (Wang 2023, arXiv 2207.12396) asks CLIP which of two antonym sentences fits the picture
better. CLIP-IQA+ learns the words before them: sixteen context vectors for each attribute, image
and text encoders frozen. The slice is shown whole at its own resolution (position embeddings
interpolated), because shrinking it to CLIP's 224 pixels averages the noise away.

torchmetrics' CLIP-IQA shrinks the picture and does not run with transformers 5, so the metric's two
lines stand here and CLIP itself is transformers'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from engine.prepare import Window, resample, to_window
from engine.template import ATTRIBUTES, MAX_SCORE
from engine.whole_file import written_whole

from ..loop import Learner, Loop, Schedule
from .base import Array, Case, WeightsMissingError
from .judge import list_cases

PROMPTS: Final = {
    "noise": ("A noise-free CT image.", "A noisy CT image."),
    "sharpness": ("A sharp CT image.", "A blurry CT image."),
    "artifacts": ("A clean CT image.", "A CT image with streak artifacts."),
    "low_contrast": ("A CT image with clear contrast.", "A CT image with unclear contrast."),
    "overall": ("A good CT image.", "A bad CT image."),
}
"""Attribute -> antonyms, the better one first."""

CONTEXT: Final = 16
_WINDOW: Final = Window(low=-160.0, high=240.0, mean=0.0, std=1.0)
_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's own training pictures."""


class Clip:
    """A CLIP of Hugging Face's layout, frozen.

    Args:
        folder: config.json, model.safetensors and the tokenizer's files.

    Raises:
        WeightsMissingError: one of them is not there.
    """

    def __init__(self, folder: Path) -> None:
        needed = ("config.json", "model.safetensors", "vocab.json", "merges.txt")
        missing = [name for name in needed if not (folder / name).is_file()]
        if missing:
            raise WeightsMissingError(
                f"{folder} lacks {', '.join(missing)}. Where there is a network, download a CLIP "
                "once: hf download openai/clip-vit-base-patch16 --local-dir FOLDER, and name that "
                "folder by --clip (weights must be safetensors: pickled ones are not read)"
            )
        from transformers import CLIPModel, CLIPTokenizer

        self.model: Any = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
        self.model.eval().requires_grad_(False)
        self.tokenizer: Any = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        self.scale = float(self.model.logit_scale.exp())
        vision = self.model.config.vision_config
        self.size = max(512 // vision.patch_size, 1) * vision.patch_size

    @torch.no_grad()
    def see(self, hu: NDArray[np.float32]) -> Tensor:
        """(H, W) HU -> unit image feature, (D,)."""
        shown = torch.from_numpy(to_window(resample(hu, self.size), _WINDOW))
        colour = shown.expand(1, 3, -1, -1)
        mean, std = (torch.tensor(v)[None, :, None, None] for v in (_MEAN, _STD))
        found = self.model.get_image_features((colour - mean) / std, interpolate_pos_encoding=True)
        return functional.normalize(found.pooler_output[0], dim=-1)

    def read(self, sentences: Sequence[str], context: Tensor | None = None) -> Tensor:
        """Sentences -> unit text features, (N, D).

        With `context` (N, C, width), each sentence stands after its C learned vectors.
        """
        if context is None:
            ids = self.tokenizer(list(sentences), padding=True, return_tensors="pt")
            return self._features(ids)
        blanks = " ".join(["x"] * context.shape[1])
        ids = self.tokenizer(
            [f"{blanks} {text}" for text in sentences], padding=True, return_tensors="pt"
        )

        def put(_module: nn.Module, _inputs: object, words: Tensor) -> Tensor:
            return torch.cat([words[:, :1], context, words[:, 1 + context.shape[1] :]], dim=1)

        with self.model.text_model.embeddings.token_embedding.register_forward_hook(put):
            return self._features(ids)

    def _features(self, ids: Any) -> Tensor:
        found = self.model.get_text_features(ids["input_ids"], ids["attention_mask"])
        return functional.normalize(found.pooler_output, dim=-1)


def sentences() -> list[str]:
    """The prompts in the order of the attributes, better one first: 2 A sentences."""
    return [text for name in ATTRIBUTES for text in PROMPTS[name]]


def fit(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """How much better the better sentence fits: (N, D), (2 A, D) -> scores 0…4, (N, A)."""
    logits = scale * images @ texts.T
    return MAX_SCORE * logits.unflatten(-1, (len(ATTRIBUTES), 2)).softmax(-1)[..., 0]


class ClipIqa:
    """CLIP-IQA: nothing is learned but, by whoever compares, a line per attribute."""

    name, on_scale = "CLIP-IQA", False

    def __init__(self, clip: Clip) -> None:
        self._clip = clip
        with torch.no_grad():
            self._texts = clip.read(sentences())

    def scores(self, cases: Sequence[Case]) -> Array:
        """(N, A)."""
        images = torch.stack([self._clip.see(case.hu) for case in cases])
        return fit(images, self._texts, self._clip.scale).double().numpy()


class LearnedPrompts(Learner[tuple[Tensor, Tensor]]):
    """Sixteen context vectors for each attribute, shared by its two sentences."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self._clip = clip
        width = clip.model.config.text_config.hidden_size
        self.context = nn.Parameter(0.02 * torch.randn(len(ATTRIBUTES), CONTEXT, width))

    def texts(self) -> Tensor:
        """Text features as learned so far, (2 A, D)."""
        return self._clip.read(sentences(), self.context.repeat_interleave(2, dim=0))

    def loss(self, batch: tuple[Tensor, Tensor], _progress: float) -> Tensor:
        """Mean squared error on 0…4."""
        return functional.mse_loss(self.expected(batch), batch[1])

    def expected(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """(B, A)."""
        return fit(batch[0], self.texts(), self._clip.scale)


class ClipSamples:
    """Image features and scores of one split; features are computed once and kept in a file."""

    def __init__(self, clip: Clip, cases: Iterable[Case], rows: pd.DataFrame, kept: Path) -> None:
        self.scores = rows[list(ATTRIBUTES)].to_numpy(np.float32)
        self.patients = rows["patient"].to_numpy(np.str_)
        if not kept.is_file():
            features = torch.stack([clip.see(case.hu) for case in cases])
            with written_whole(kept) as part:
                save_file({"features": features}, part)
        self._features = load_file(kept)["features"]

    def __len__(self) -> int:
        return len(self.scores)

    def batch(
        self, rows: NDArray[np.intp], rng: np.random.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features (B, D) and scores (B, A); nothing is varied."""
        return self._features[rows], torch.from_numpy(self.scores[rows])


class ClipIqaPlus:
    """CLIP-IQA+ from its checkpoint folder.

    Raises:
        WeightsMissingError: the folder holds no learned prompts.
    """

    name, on_scale = "CLIP-IQA+", False

    def __init__(self, clip: Clip, checkpoint: Path) -> None:
        if not (checkpoint / "model.safetensors").is_file():
            raise WeightsMissingError(
                f"{checkpoint} holds no learned prompts; "
                "train them: python -m training.rivals clip-iqa-plus DATA --clip FOLDER --out …"
            )
        self._clip, learned = clip, LearnedPrompts(clip)
        learned.load(checkpoint)
        with torch.no_grad():
            self._texts = learned.texts()

    def scores(self, cases: Sequence[Case]) -> Array:
        """(N, A)."""
        images = torch.stack([self._clip.see(case.hu) for case in cases])
        return fit(images, self._texts, self._clip.scale).double().numpy()


def train(clip: Clip, data: Path, rows: pd.DataFrame, out: Path, schedule: Schedule) -> None:
    """Learn the prompts on training patients; an interrupted run goes on in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(schedule.seed)
    training, validation = (
        ClipSamples(
            clip,
            _cases(data, rows, name),
            rows[rows["split"] == name],
            out / f"features-{name}.safetensors",
        )
        for name in ("train", "validation")
    )
    Loop(LearnedPrompts(clip), training, validation, out, schedule).run()


def _cases(data: Path, rows: pd.DataFrame, split: str) -> Iterator[Case]:
    return list_cases(data, rows, rows[rows["split"] == split])
