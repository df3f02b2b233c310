"""`python -m training.finetune DATA --out CHECKPOINT`: train the captioner to write captions.

The first half trains the encoder: by the head that guesses the levels for the first draft, and,
where the data set knows what was done to a slice and what was measured on it and where, by two
heads that training alone uses (readers round and say little, physics does not). Then the captions
join in (`CHECKPOINT/joint`). At last the encoder stands still, and the decoder learns to say what
that head sees (`CHECKPOINT/distillation`). The level words' targets are soft, so that their
probabilities become a continuous score. Pictures that are no CT slices are shown with no level
favoured, so that the captioner is not sure of itself there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.errors import IqaError
from engine.template import ATTRIBUTES
from engine.whole_file import written_whole

from .data.formats import folder_of, read_table
from .evaluate import (
    Agreement,
    agreement,
    apply_calibration,
    calibrate,
    table,
    written_levels,
)
from .loop import BatchT, Data, Learner, Loop, Schedule, add_device, add_schedule, schedule_of
from .model import Captioner, CaptionerConfig, SecondOrderStem
from .samples import Batch, Samples, Vocabulary, Words, config_for
from .tokenizer import build_tokenizer

LEVEL_WEIGHT, TEXT_WEIGHT, DRAFT_WEIGHT, PHYSICS_WEIGHT, MAPS_WEIGHT = 1.0, 1.0, 0.5, 0.5, 1.0
EXPECTED_WEIGHT = 1.0
"""Of the squared error of expected levels: the scores are what the probabilities are for."""


OUTSIDERS = 0.08
"""Pictures that are no CT slices, per training slice; drawn as often as one patient's."""
PRETRAINED = 0.5
"""Share of the schedule before the first caption."""
DISTILLED = 0.25
"""Steps of the distillation, per step of the schedule; at half the rate."""
PARTS = ("physics", "maps", "outsiders", "pretraining", "distillation")
"""Of the recipe, for ablations."""


class CaptionLearner(Learner[Batch]):
    """The captioner on its way: first the encoder and its heads, then captions as well."""

    def __init__(
        self, captioner: Captioner, vocabulary: Vocabulary, pretrained: float = PRETRAINED
    ) -> None:
        super().__init__()
        self.captioner, self.vocabulary = captioner, vocabulary
        self.pretrained, self.ready = pretrained, False

    def loss(self, batch: Batch, progress: float) -> Tensor:
        """That of the heads, and after the pretraining that of the caption."""
        self.ready = progress >= self.pretrained
        features = self.captioner.features(batch.statistics, batch.kept)
        loss = DRAFT_WEIGHT * _level_loss(
            self.captioner.guess(features).log_softmax(-1), batch.words.soft
        )
        loss = loss + physics_loss(self.captioner, features, batch)
        loss = loss + maps_loss(self.captioner, features, batch)
        if not self.ready:
            return loss
        return loss + self._words_loss(features, batch.words)

    def _words_loss(self, features: Tensor, words: Words) -> Tensor:
        logits = self.captioner.decode(words.inputs, self.captioner.cross(features))
        return caption_loss(logits, words, self.vocabulary)

    def expected(self, batch: Batch) -> Tensor:
        """Expected level, (B, A): by the caption, or before there is one by the draft head."""
        features = self.captioner.features(batch.statistics)
        if self.ready:
            cross, rows = self.captioner.cross(features), len(features)
            return written_levels(
                lambda tokens: self.captioner.decode(tokens.to(features.device), cross).cpu(),
                rows,
                self.vocabulary,
            )
        return _mean_level(self.captioner.guess(features).softmax(-1))

    def matrices(self) -> list[nn.Parameter]:
        """See `Captioner.matrices`."""
        return self.captioner.matrices()

    def save(self, folder: Path) -> None:
        """See `Captioner.save`."""
        self.captioner.save(folder)

    def load(self, folder: Path) -> None:
        """See `Captioner.load`."""
        self.captioner.load_state_dict(Captioner.load(folder).state_dict())


class Distillation(CaptionLearner):
    """The decoder alone; its levels are those of the head that guesses them for the draft.

    Where both agree, the draft holds, and a caption takes one pass. That head can weigh the tokens
    in few ways only, and so has less to learn by heart than a decoder taught by the readers.
    """

    def __init__(self, captioner: Captioner, vocabulary: Vocabulary) -> None:
        super().__init__(captioner, vocabulary, pretrained=0.0)
        self.ready = True
        captioner.requires_grad_(False)
        for part in captioner.text_half():
            part.requires_grad_(True)

    def loss(self, batch: Batch, _progress: float) -> Tensor:
        """That of the caption."""
        with torch.no_grad():
            features = self.captioner.features(batch.statistics, batch.kept)
            words = replace(batch.words, soft=self.captioner.guess(features).softmax(-1))
        return self._words_loss(features, words)


def caption_loss(logits: Tensor, words: Words, vocabulary: Vocabulary) -> Tensor:
    """Cross-entropy of the caption's words, and the level words' by their soft targets.

    Args:
        logits: (B, T, vocabulary), after each of `words.inputs`.
        words: what was to be said.
        vocabulary: token ids.
    """
    at_slots = logits.gather(1, words.slots[..., None].expand(-1, -1, logits.shape[-1]))
    levels = at_slots.log_softmax(-1)[..., list(vocabulary.levels)]
    text = words.targets.scatter(1, words.slots, -1)
    other = functional.cross_entropy(logits.flatten(0, 1), text.flatten(), ignore_index=-1)
    return LEVEL_WEIGHT * _level_loss(levels, words.soft) + TEXT_WEIGHT * other


def physics_loss(model: Captioner, features: Tensor, batch: Batch) -> Tensor:
    """Error of the physics head on rows whose physics is known; 0 without a head."""
    known = ~batch.physics.isnan().any(1)
    if model.physics_head is None or not bool(known.any()):
        return features.new_zeros(())
    guessed = model.physics_head(model.pooled(features[known]))
    return PHYSICS_WEIGHT * functional.smooth_l1_loss(guessed, batch.physics[known])


def maps_loss(model: Captioner, features: Tensor, batch: Batch) -> Tensor:
    """Error of the head of maps at the tokens of rows whose maps are known; 0 without a head."""
    known = ~batch.maps.isnan().any(2).any(1)
    if model.maps_head is None or not bool(known.any()):
        return features.new_zeros(())
    truth = batch.maps
    if batch.kept is not None:
        truth = truth.gather(1, batch.kept[..., None].expand(-1, -1, truth.shape[2]))
    return MAPS_WEIGHT * functional.smooth_l1_loss(model.maps_head(features[known]), truth[known])


def _level_loss(logprobs: Tensor, soft: Tensor) -> Tensor:
    """Cross-entropy to the soft levels, and squared error of the expected level; (B, A, K) both."""
    expected = functional.mse_loss(_mean_level(logprobs.softmax(-1)), _mean_level(soft))
    return -(logprobs * soft).sum(-1).mean() + EXPECTED_WEIGHT * expected


def _mean_level(shares: Tensor) -> Tensor:
    """(B, A, K) -> (B, A)."""
    return shares @ torch.arange(shares.shape[-1], dtype=shares.dtype, device=shares.device)


def finish(
    model: Learner[BatchT],
    validation: Data[BatchT],
    test: Data[BatchT],
    out: Path,
    about: Mapping[str, object],
) -> dict[str, Agreement]:
    """Calibrate on validation patients, measure on test patients, write `training.json`.

    Args:
        model: as validated best.
        validation, test: of patients that were not trained on.
        out: folder of `training.json`.
        about: what else the file says, see `export.about`.
    """
    lines = calibrate(model.predict(validation), validation.scores.astype(float))
    scores = apply_calibration(model.predict(test), lines)
    results = {
        name: agreement(scores[:, a], test.scores[:, a].astype(float), test.patients)
        for a, name in enumerate(ATTRIBUTES)
    }
    metrics = {f"{name}_{k}": v for name, r in results.items() for k, v in asdict(r).items()}
    patients = len(np.unique(test.patients))
    data = f"CT-IQA, {patients} test patients, {len(test)} test slices"
    whole = {"data": data, **about, "calibration": lines, "metrics": metrics}
    with written_whole(out / "training.json") as part:
        part.write_text(json.dumps(whole, indent=1))
    return results


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    args = _parser().parse_args(arguments)
    try:
        rows, schedule = read_table(args.data), schedule_of(args, args.device)
    except (IqaError, FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    started = time.perf_counter()
    try:
        results = _train(args, rows, schedule)
    except IqaError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(
        f"{table(results)}\ntrained in {(time.perf_counter() - started) / 60:.0f} min\n"
    )
    return 0


def _train(
    args: argparse.Namespace, rows: pd.DataFrame, schedule: Schedule
) -> dict[str, Agreement]:
    """All stages; goes on in `args.out` where it was interrupted."""
    tokenizer = build_tokenizer()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    vocabulary = Vocabulary.of(tokenizer)
    config = config_for(vocabulary, rows)
    config = replace(
        config,
        physics=0 if "physics" in args.without else config.physics,
        maps=0 if "maps" in args.without else config.maps,
    )
    parts = _samples(args, rows, vocabulary, config)
    torch.manual_seed(schedule.seed)
    pretrained = 0.0 if "pretraining" in args.without else PRETRAINED
    learner = CaptionLearner(Captioner(config), vocabulary, pretrained)
    loop = Loop(learner, parts["train"], parts["validation"], args.out / "joint", schedule)
    if not loop.finished:  # what was distilled from another encoder is worth nothing
        shutil.rmtree(args.out / "distillation", ignore_errors=True)
    loop.run()
    learner.ready = True  # also where a finished run was only resumed
    if "distillation" not in args.without:
        learner = _distil(learner, parts, args.out / "distillation", schedule)
    learner.save(args.out)
    about = {
        "name": "ct-iqa-small",
        "version": "1",
        "licence": "Apache-2.0; training data CC BY 3.0/4.0, MIT, BSD and Apache-2.0, see NOTICE",
        "score_origin": rows["origin"].iloc[0],
    }
    return finish(learner, parts["validation"], parts["test"], args.out, about)


def _distil(
    learner: CaptionLearner, parts: Mapping[str, Samples], out: Path, schedule: Schedule
) -> CaptionLearner:
    """The last stage."""
    steps = max(1, round(DISTILLED * schedule.steps))
    # Validated once, at its end: it should come near the head, whatever the readers say.
    shorter = replace(schedule, steps=steps, rate=schedule.rate / 2, every=steps)
    distilled = Distillation(learner.captioner, learner.vocabulary)
    Loop(distilled, parts["train"], parts["validation"], out, shorter).run()
    return distilled


def _samples(
    args: argparse.Namespace, rows: pd.DataFrame, vocabulary: Vocabulary, config: CaptionerConfig
) -> dict[str, Samples]:
    """The three splits; pictures that are no CT slices are among the first."""
    folder = folder_of(args.data)
    stem, found = SecondOrderStem(config), {}
    for name in ("train", "validation", "test"):
        split = rows[rows["split"] == name]
        shown = name == "train" and "outsiders" not in args.without
        outsiders = int(OUTSIDERS * len(split)) if shown else 0
        found[name] = Samples(folder, split, stem, vocabulary, outsiders, args.device)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m training.finetune runs/ct-iqa --out runs/small",
    )
    parser.add_argument("data", type=Path, help="data set: ours, LDCTIQAC 2023, or a CSV")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder; resumes there")
    add_schedule(parser)
    add_device(parser)
    parser.add_argument(
        "--without",
        choices=PARTS,
        action="append",
        default=[],
        help="ablation: leave a part of the recipe away; may be given more than once",
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
