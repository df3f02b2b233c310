"""`python -m training.finetune DATA --out CHECKPOINT`: train the captioner to write captions.

The caption is the training signal; the level words weigh most, and their targets are soft, so
that their probabilities become a continuous score. The head that guesses the levels for the first
draft learns the same targets from the encoder alone, which teaches the encoder faster. Where the
data set knows what was done to a slice and what was measured on it, a head that training alone
uses learns that, too: readers round, physics does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from engine.template import ATTRIBUTES
from engine.whole_file import written_whole

from .data.formats import read_table
from .evaluate import Agreement, agreement, apply_calibration, calibrate, predict, table
from .model import Captioner, CaptionerConfig, SecondOrderStem
from .samples import Batch, Samples, Vocabulary, physics
from .tokenizer import build_tokenizer

LEVEL_WEIGHT, TEXT_WEIGHT, DRAFT_WEIGHT, PHYSICS_WEIGHT = 1.0, 1.0, 0.5, 0.5
EXPECTED_WEIGHT = 0.5
"""Of the squared error of expected levels: the scores are what the probabilities are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to train.

    Attributes:
        steps: optimizer steps in all.
        batch: slices per step.
        rate: peak learning rate (AdamW), after a linear warm-up, falling as a cosine.
        every: steps between validations.
        patience: validations without a better mean PLCC before training stops early.
        seed: for order, augmentation and initial weights.
    """

    steps: int = 2400
    batch: int = 16
    rate: float = 6e-4
    every: int = 150
    patience: int = 8
    seed: int = 7


def loss_of(model: Captioner, batch: Batch) -> Tensor:
    """Caption loss with soft level targets, plus those of the draft and the physics heads."""
    features = model.features(batch.statistics)
    logits = model.decode(batch.inputs, model.cross(features))
    at_slots = logits.gather(1, batch.slots[..., None].expand(-1, -1, logits.shape[-1]))
    level_loss = _level_loss(at_slots.log_softmax(-1)[..., model.config.level_ids], batch.soft)
    text = batch.targets.scatter(1, batch.slots, -1)
    text_loss = functional.cross_entropy(logits.flatten(0, 1), text.flatten(), ignore_index=-1)
    draft_loss = _level_loss(model.guess(features).log_softmax(-1), batch.soft)
    loss = LEVEL_WEIGHT * level_loss + TEXT_WEIGHT * text_loss + DRAFT_WEIGHT * draft_loss
    if model.physics_head is not None:
        guessed = model.physics_head(features.mean(1))
        loss += PHYSICS_WEIGHT * functional.smooth_l1_loss(guessed, batch.physics)
    return loss


def _level_loss(logprobs: Tensor, soft: Tensor) -> Tensor:
    """Cross-entropy to the soft levels, and squared error of the expected level; (B, A, K) both."""
    grid = torch.arange(soft.shape[-1], dtype=soft.dtype)
    expected = functional.mse_loss(logprobs.softmax(-1) @ grid, soft @ grid)
    return -(logprobs * soft).sum(-1).mean() + EXPECTED_WEIGHT * expected


class Trainer:
    """One training run with resumable, atomic checkpoints in `out`."""

    def __init__(
        self,
        config: CaptionerConfig,
        train: Samples,
        validation: Samples,
        out: Path,
        schedule: Schedule,
    ) -> None:
        self.train, self.validation, self.out, self.schedule = train, validation, out, schedule
        torch.manual_seed(schedule.seed)
        self.model = Captioner(config)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=schedule.rate, weight_decay=0.02
        )
        self.step, self.best, self.stale = 0, -1.0, 0
        self.curve: list[dict[str, float]] = []
        (out / "last").mkdir(parents=True, exist_ok=True)
        if (out / "last" / "state.json").is_file():
            self._resume()

    def run(self) -> None:
        """Train to the end of the schedule, or until validation stops getting better."""
        schedule = self.schedule
        losses: list[float] = []
        with tqdm(total=schedule.steps, initial=self.step, desc="fine-tune", unit="step") as bar:
            while self.step < schedule.steps and self.stale < schedule.patience:
                losses.append(self._train_step())
                bar.update()
                if self.step % schedule.every == 0 or self.step == schedule.steps:
                    plcc = self._validate(float(np.mean(losses)))
                    bar.set_postfix(loss=f"{np.mean(losses):.3f}", plcc=f"{plcc:.3f}")
                    losses.clear()

    def _train_step(self) -> float:
        schedule = self.schedule
        rng = np.random.default_rng([schedule.seed, self.step])
        for group in self.optimizer.param_groups:
            warm = min(1.0, (self.step + 1) / 100)
            fall = 0.5 * (1.0 + np.cos(np.pi * self.step / schedule.steps))
            group["lr"] = schedule.rate * warm * (0.02 + 0.98 * fall)
        self.model.train()
        loss = loss_of(self.model, self.train.batch(self._rows(rng), rng))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def _rows(self, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
        """Every patient is drawn as often, however many slices there are of each."""
        names, inverse, counts = np.unique(
            self.train.patients, return_inverse=True, return_counts=True
        )
        weight = 1.0 / counts[inverse] / len(names)
        return rng.choice(len(self.train), self.schedule.batch, p=weight)

    def _validate(self, loss: float) -> float:
        predicted = predict(self.model, self.validation)
        plcc = {
            name: float(np.corrcoef(predicted[:, a], self.validation.scores[:, a])[0, 1])
            for a, name in enumerate(ATTRIBUTES)
        }
        mean = float(np.nanmean(list(plcc.values())))
        self.curve.append({"step": self.step, "loss": loss, "mean": mean, **plcc})
        if mean > self.best:
            self.best, self.stale = mean, 0
            self.model.save(self.out)
        else:
            self.stale += 1
        self._checkpoint()
        _log_curve(self.curve, self.out)
        return mean

    def _checkpoint(self) -> None:
        """Weights, optimizer and counters, each file replaced atomically, the counters last."""
        self.model.save(self.out / "last")
        state = self.optimizer.state_dict()["state"]
        tensors = {f"{i}.{k}": v.clone() for i, s in state.items() for k, v in s.items()}
        with written_whole(self.out / "last" / "optimizer.safetensors") as part:
            save_file(tensors, part)
        counters = {"step": self.step, "best": self.best, "stale": self.stale, "curve": self.curve}
        with written_whole(self.out / "last" / "state.json") as part:
            part.write_text(json.dumps(counters))

    def _resume(self) -> None:
        last = self.out / "last"
        self.model.load_state_dict(Captioner.load(last).state_dict())
        saved = self.optimizer.state_dict()
        for key, tensor in load_file(last / "optimizer.safetensors").items():
            index, name = key.split(".")
            saved["state"].setdefault(int(index), {})[name] = tensor
        self.optimizer.load_state_dict(saved)
        counters = json.loads((last / "state.json").read_text())
        self.step, self.best = counters["step"], counters["best"]
        self.stale, self.curve = counters["stale"], counters["curve"]


def _log_curve(curve: list[dict[str, float]], out: Path) -> None:
    """learning-curve.csv and .png."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    frame = pd.DataFrame(curve)
    frame.to_csv(out / "learning-curve.csv", index=False)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(frame["step"], frame["loss"])
    left.set(xlabel="step", ylabel="training loss")
    for name in ATTRIBUTES:
        right.plot(frame["step"], frame[name], label=name.replace("_", " "))
    right.set(xlabel="step", ylabel="validation PLCC")
    right.legend(fontsize=7)
    figure.savefig(out / "learning-curve.png", dpi=90)
    plt.close(figure)


def finish(
    model: Captioner, validation: Samples, test: Samples, out: Path, origin: str
) -> dict[str, Agreement]:
    """Calibrate on validation patients, measure on test patients, write `training.json`."""
    lines = calibrate(predict(model, validation), validation.scores.astype(float))
    scores = apply_calibration(predict(model, test), lines)
    results = {
        name: agreement(scores[:, a], test.scores[:, a].astype(float), test.patients)
        for a, name in enumerate(ATTRIBUTES)
    }
    metrics = {f"{name}_{k}": v for name, r in results.items() for k, v in asdict(r).items()}
    about = {
        "name": "ct-iqa-small",
        "version": "1",
        "data": f"CT-IQA, {len(np.unique(test.patients))} test patients, {len(test)} test slices",
        "licence": "Apache-2.0; training data CC BY 3.0/4.0, MIT, BSD and Apache-2.0, see NOTICE",
        "score_origin": origin,
        "calibration": lines,
        "metrics": metrics,
    }
    with written_whole(out / "training.json") as part:
        part.write_text(json.dumps(about, indent=1))
    return results


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m training.finetune runs/ct-iqa --out runs/small",
    )
    parser.add_argument("data", type=Path, help="data set: ours, LDCTIQAC 2023, or a CSV")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder; resumes there")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--every", type=int, default=150, help="steps per validation")
    args = parser.parse_args(arguments)
    schedule = Schedule(steps=args.steps, batch=args.batch, every=args.every)
    try:
        rows = read_table(args.data)
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    folder = args.data.parent if args.data.suffix == ".csv" else args.data
    tokenizer = build_tokenizer()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out / "tokenizer.json"))
    vocabulary = Vocabulary.of(tokenizer)
    config = CaptionerConfig(
        vocab_size=tokenizer.get_vocab_size(),
        level_ids=vocabulary.levels,
        physics=physics(rows).shape[1],
    )
    stem = SecondOrderStem(config)
    parts = {
        name: Samples(folder, rows[rows["split"] == name], stem, vocabulary)
        for name in ("train", "validation", "test")
    }
    started = time.perf_counter()
    trainer = Trainer(config, parts["train"], parts["validation"], args.out, schedule)
    trainer.run()
    best = Captioner.load(args.out)
    results = finish(best, parts["validation"], parts["test"], args.out, rows["origin"].iloc[0])
    sys.stdout.write(
        f"{table(results)}\ntrained in {(time.perf_counter() - started) / 60:.0f} min\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
