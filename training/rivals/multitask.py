"""Image-only rivals: the captioner's encoder with heads instead of words.

Multi-task classification: five levels per attribute, cross-entropy on rounded scores; the score is
the expected level. Multi-task regression: one number per attribute, mean squared error. Encoder,
initial weights, slices, batches and schedule are the captioner's. As in the paper they learn from
the scores alone; `measured` gives them the captioner's training-only heads of physics and maps too,
so that what differs is only the head that makes the scores.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.prepare import resample, to_pixels
from engine.template import ATTRIBUTES, LEVELS, MAX_SCORE
from engine.whole_file import written_whole

from ..finetune import maps_loss, physics_loss
from ..loop import Learner, Loop, Schedule
from ..model import Captioner, CaptionerConfig, SecondOrderStem, Statistics, image_spec
from ..samples import Batch, Samples, Vocabulary, config_for
from ..tokenizer import build_tokenizer
from .base import Array, Case, WeightsMissingError

Task = Literal["classification", "regression"]


class Multitask(Learner[Batch]):
    """Encoder, mean over tokens, one linear head for all attributes."""

    grid: Tensor

    def __init__(self, config: CaptionerConfig, task: Task) -> None:
        super().__init__()
        self.config, self.task = replace(config, decoder_layers=0), task
        self.encoder = Captioner(self.config)
        for part in (*self.encoder.text_half(), self.encoder.draft_head):
            part.requires_grad_(False)  # it has no part in this, and is not saved
        self.outputs = len(LEVELS) if task == "classification" else 1
        self.head = nn.Linear(config.width, len(ATTRIBUTES) * self.outputs)
        if task == "regression":
            nn.init.constant_(self.head.bias, MAX_SCORE / 2)  # start in the middle of the scale
        self.register_buffer("grid", torch.arange(len(LEVELS), dtype=torch.float32), False)

    def forward(self, features: Tensor) -> Tensor:
        """Image tokens (B, S, width) -> (B, A, 5) logits, or (B, A, 1) scores."""
        flat: Tensor = self.head(self.encoder.pooled(features))
        return flat.unflatten(-1, (len(ATTRIBUTES), self.outputs))

    def loss(self, batch: Batch, _progress: float) -> Tensor:
        """Cross-entropy on the rounded score, or squared error; and of the heads of physics."""
        truth = batch.words.soft @ self.grid
        features = self.encoder.features(batch.statistics, batch.kept)
        found = self(features)
        if self.task == "regression":
            loss = functional.mse_loss(found[..., 0], truth)
        else:
            levels = (truth + 0.5).floor().long()
            loss = functional.cross_entropy(found.flatten(0, 1), levels.flatten())
        loss = loss + physics_loss(self.encoder, features, batch)
        return loss + maps_loss(self.encoder, features, batch)

    def matrices(self) -> list[nn.Parameter]:
        """See `Captioner.matrices`."""
        return self.encoder.matrices()

    def expected(self, batch: Batch) -> Tensor:
        """Expected level, or the regressed score, (B, A)."""
        return self.judge(batch.statistics)

    def judge(self, statistics: Statistics) -> Tensor:
        """The stem's statistics -> scores 0…4, (B, A)."""
        found: Tensor = self(self.encoder.features(statistics))
        if self.task == "regression":
            return found[..., 0]
        return found.softmax(-1) @ self.grid


class MultitaskRival:
    """A trained `Multitask` model, read from its checkpoint folder.

    Raises:
        WeightsMissingError: the folder holds no checkpoint.
    """

    on_scale = False

    def __init__(self, checkpoint: Path) -> None:
        if not (checkpoint / "config.json").is_file():
            raise WeightsMissingError(
                f"{checkpoint} holds no checkpoint; train one with "
                "python -m training.rivals multitask-classification DATA --out FOLDER"
            )
        raw = json.loads((checkpoint / "config.json").read_text())
        task: Task = raw.pop("task")
        config = CaptionerConfig(**{**raw, "level_ids": tuple(raw["level_ids"])})
        self.name = f"multi-task {task}"
        self._model = Multitask(config, task).eval()
        self._model.load(checkpoint)

    @torch.no_grad()
    def scores(self, cases: Sequence[Case]) -> Array:
        """Expected level or regressed score of every attribute, (N, A)."""
        spec = image_spec(self._model.config.size)
        found = []
        for case in cases:
            pixels = torch.from_numpy(to_pixels(resample(case.hu, spec.size), spec))[None]
            statistics = self._model.encoder.stem.statistics(pixels)
            found.append(self._model.judge(statistics)[0].double().numpy())
        return np.stack(found)


def train(
    data: Path, rows: pd.DataFrame, out: Path, task: Task, schedule: Schedule, *, measured: bool
) -> None:
    """Train on the rows' training patients, keep what is best on the validation patients.

    Args:
        data: folder that the rows' files are relative to.
        rows: as `training.data.formats.read_table` gives them.
        out: checkpoint folder; an interrupted run goes on there.
        task: which head.
        schedule: the captioner's.
        measured: also learn what was done and measured, see `training.finetune`.
    """
    vocabulary = Vocabulary.of(build_tokenizer())
    config = config_for(vocabulary, rows)
    config = config if measured else replace(config, physics=0, maps=0)
    torch.manual_seed(schedule.seed)
    model = Multitask(config, task)
    out.mkdir(parents=True, exist_ok=True)
    with written_whole(out / "config.json") as part:
        part.write_text(json.dumps({"task": task, **asdict(model.config)}, indent=1))
    stem = SecondOrderStem(config)
    training, validation = (
        Samples(data, rows[rows["split"] == name], stem, vocabulary, device=schedule.device)
        for name in ("train", "validation")
    )
    Loop(model, training, validation, out, schedule).run()
