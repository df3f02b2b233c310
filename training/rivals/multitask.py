"""Image-only rivals: the captioner's encoder with heads instead of words.

Multi-task classification: five levels per attribute, cross-entropy on rounded scores; the score is
the expected level. Multi-task regression: one number per attribute, mean squared error. Encoder,
initial weights, data, batches and schedule are the captioner's, so what differs is the head.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.prepare import resample, to_pixels
from engine.template import ATTRIBUTES, LEVELS, MAX_SCORE
from engine.whole_file import written_whole

from ..evaluate import apply_calibration
from ..model import Captioner, CaptionerConfig, Statistics, image_spec
from ..samples import Batch
from .base import Array, Case, WeightsMissingError
from .loop import Learner, load_learned

Task = Literal["classification", "regression"]


class Multitask(Learner[Batch]):
    """Encoder, mean over tokens, one linear head for all attributes."""

    def __init__(self, config: CaptionerConfig, task: Task) -> None:
        super().__init__()
        self.config, self.task = replace(config, decoder_layers=0), task
        self.encoder = Captioner(self.config)
        for name, part in self.encoder.named_children():
            if name in ("words", "positions", "decoder_norm", "head", "draft_head"):
                part.requires_grad_(False)  # the text half has no part in this
        self.head = nn.Linear(config.width, len(ATTRIBUTES) * self._outputs)
        self.register_buffer("grid", torch.arange(len(LEVELS), dtype=torch.float32), False)

    grid: Tensor

    @property
    def _outputs(self) -> int:
        return len(LEVELS) if self.task == "classification" else 1

    def forward(self, statistics: Statistics) -> Tensor:
        """The stem's statistics -> (B, A, 5) logits, or (B, A, 1) scores."""
        logits: Tensor = self.head(self.encoder.features(statistics).mean(1))
        return logits.unflatten(-1, (len(ATTRIBUTES), self._outputs))

    def loss(self, batch: Batch) -> Tensor:
        """Cross-entropy on the rounded score, or squared error; mean over attributes."""
        truth = batch.soft @ self.grid
        found = self(batch.statistics)
        if self.task == "regression":
            return functional.mse_loss(found[..., 0], truth)
        levels = (truth + 0.5).floor().long()
        return functional.cross_entropy(found.flatten(0, 1), levels.flatten())

    def expected(self, batch: Batch) -> Tensor:
        """Expected level, or the regressed score, (B, A)."""
        return self.judge(batch.statistics)

    def judge(self, statistics: Statistics) -> Tensor:
        """The stem's statistics -> scores, (B, A), not yet calibrated."""
        found = self(statistics)
        if self.task == "regression":
            return torch.clamp(found[..., 0], 0.0, MAX_SCORE)
        scores: Tensor = found.softmax(-1) @ self.grid
        return scores


class MultitaskRival:
    """A trained `Multitask` model, read from its checkpoint folder.

    Raises:
        WeightsMissingError: the folder holds no finished checkpoint.
    """

    on_scale = True

    def __init__(self, checkpoint: Path) -> None:
        if not (checkpoint / "rival.json").is_file():
            raise WeightsMissingError(
                f"{checkpoint} holds no finished rival; train one with "
                "python -m training.rivals multitask-classification DATA --out FOLDER"
            )
        about = json.loads((checkpoint / "rival.json").read_text())
        raw = about["config"]
        config = CaptionerConfig(**{**raw, "level_ids": tuple(raw["level_ids"])})
        self.name = f"multi-task {about['task']}"
        self._calibration = about["calibration"]
        self._model = Multitask(config, about["task"]).eval()
        load_learned(self._model, checkpoint)

    @torch.no_grad()
    def scores(self, cases: Sequence[Case]) -> Array:
        """(N, A), calibrated on the validation patients it was trained beside."""
        spec = image_spec(self._model.config.size)
        found = []
        for case in cases:
            pixels = torch.from_numpy(to_pixels(resample(case.hu, spec.size), spec))[None]
            statistics = self._model.encoder.stem.statistics(pixels)
            found.append(self._model.judge(statistics)[0].double().numpy())
        return apply_calibration(np.stack(found), self._calibration)


def write_about(
    model: Multitask, out: Path, calibration: dict[str, dict[str, float]], origin: str
) -> None:
    """`rival.json`: what `MultitaskRival` needs beside the weights."""
    about = {
        "rival": f"multitask-{model.task}",
        "task": model.task,
        "config": asdict(model.config),
        "calibration": calibration,
        "score_origin": origin,
    }
    with written_whole(out / "rival.json") as part:
        part.write_text(json.dumps(about, indent=1))
