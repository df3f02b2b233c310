"""The training loop of the captioner and of every trained rival: one recipe, resumable.

Muon for the matrices that a learner names and AdamW for all else, with a linear warm-up and a
cosine, every patient drawn as often, weights averaged over the latest steps, those with the best
mean validation PLCC kept, early stop, atomic safetensors checkpoints. See `training.finetune`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from engine.errors import BackendUnavailableError, IqaError
from engine.template import ATTRIBUTES
from engine.whole_file import written_whole

Array = NDArray[np.float64]

AVERAGED_STEPS = 1000
"""Steps that the average of the weights reaches back: it judges unseen patients better than the
latest weights do (SWAD, arXiv 2102.08604), by little at the end or not at all."""

MATRIX_RATE = 2.5
"""Learning rate of Muon (Jordan 2024, kellerjordan.github.io/posts/muon), scaled to AdamW's root
mean square of steps (arXiv 2502.16982), over that of AdamW."""
WEIGHT_DECAY = 0.02

BatchT = TypeVar("BatchT")
BatchCo = TypeVar("BatchCo", covariant=True)


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
        device: where to train, "cpu" or "cuda".
    """

    steps: int = 8000
    batch: int = 16
    rate: float = 6e-4
    every: int = 500
    patience: int = 8
    seed: int = 7
    device: str = "cpu"


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """Let a command line choose the schedule, see `schedule_of`."""
    usual = Schedule()
    parser.add_argument("--steps", type=int, default=usual.steps, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=usual.batch, help="slices per step")
    parser.add_argument("--every", type=int, default=usual.every, help="steps per validation")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Let a command line choose the device, see `schedule_of`."""
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where to train (cpu)"
    )


def schedule_of(args: argparse.Namespace, device: str = "cpu") -> Schedule:
    """The schedule that a command line chose.

    Raises:
        BackendUnavailableError: CUDA was asked for, and torch sees no GPU.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendUnavailableError(
            f"torch {torch.__version__} sees no GPU: install a build of torch for CUDA, or "
            "train with --device cpu. Nothing else was used instead"
        )
    return Schedule(steps=args.steps, batch=args.batch, every=args.every, device=device)


class Data(Protocol[BatchCo]):
    """Rows to learn from; `training.samples.Samples` is one.

    Attributes:
        scores: (N, A) reader scores.
        patients: (N,) names.
    """

    scores: NDArray[np.float32]
    patients: NDArray[np.str_]

    def __len__(self) -> int: ...

    def batch(self, rows: NDArray[np.intp], rng: np.random.Generator | None = None) -> BatchCo:
        """The rows as a batch; with `rng`, varied for training."""
        ...


class ResumeError(IqaError, ValueError):
    """The folder holds a run that cannot go on."""


class Learner(nn.Module, Generic[BatchT]):
    """A model that knows its loss and how to predict."""

    ready = True
    """Whether it can do its work yet: only then its weights are kept and patience counts."""

    def loss(self, batch: BatchT, progress: float) -> Tensor:
        """What to make small, a scalar; `progress` is the share of the schedule done with it."""
        raise NotImplementedError

    def expected(self, batch: BatchT) -> Tensor:
        """Scores 0…4, (B, A)."""
        raise NotImplementedError

    def matrices(self) -> list[nn.Parameter]:
        """Weights between hidden layers: those of a network that learns from nothing."""
        return []

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, atomically: the parameters that are trained."""
        learned = {
            n: p.detach().contiguous() for n, p in self.named_parameters() if p.requires_grad
        }
        with written_whole(folder / "model.safetensors") as part:
            save_file(learned, part)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            RuntimeError: a trained parameter is missing from the file, or the file has another one.
        """
        found = load_file(folder / "model.safetensors")
        missing, unknown = self.load_state_dict(found, strict=False)
        learned = {name for name, p in self.named_parameters() if p.requires_grad}
        if unknown or learned & set(missing):
            raise RuntimeError(f"{folder}/model.safetensors is of another model than this")

    @torch.no_grad()
    def predict(self, data: Data[BatchT], batch: int = 16) -> Array:
        """Scores of all rows, (N, A), before calibration."""
        self.eval()
        starts = range(0, len(data), batch)
        parts = [np.arange(first, min(first + batch, len(data))) for first in starts]
        found = [self.expected(data.batch(rows)).double().cpu().numpy() for rows in parts]
        return np.concatenate(found)


class Loop(Generic[BatchT]):
    """One training run with resumable, atomic checkpoints in `out`.

    `out/model.safetensors` holds the averaged tensors that validated best, `out/last` those to go
    on from, and `out/last/average` their average. Frozen parameters are neither trained nor saved.
    """

    def __init__(
        self,
        model: Learner[BatchT],
        train: Data[BatchT],
        validation: Data[BatchT],
        out: Path,
        schedule: Schedule,
    ) -> None:
        self.model, self.train, self.validation = model.to(schedule.device), train, validation
        self.out, self.schedule = out, schedule
        self.learned = [p for p in self.model.parameters() if p.requires_grad]
        self.average = [p.detach().clone() for p in self.learned]
        self.optimizers = _optimizers(self.learned, model.matrices(), schedule.rate)
        self.step, self.best, self.stale = 0, -2.0, 0
        self.curve: list[dict[str, float]] = []
        (out / "last" / "average").mkdir(parents=True, exist_ok=True)
        if (out / "last" / "state.json").is_file():
            self._resume()

    @property
    def finished(self) -> bool:
        """Whether the schedule ended, or validation stopped getting better."""
        return self.step >= self.schedule.steps or self.stale >= self.schedule.patience

    def run(self) -> None:
        """Train to the end of the schedule, or until validation stops getting better."""
        schedule = self.schedule
        losses: list[float] = []
        with tqdm(total=schedule.steps, initial=self.step, desc="train", unit="step") as bar:
            while not self.finished:
                losses.append(self._train_step())
                bar.update()
                if self.step % schedule.every == 0 or self.step == schedule.steps:
                    plcc = self._validate(float(np.mean(losses)))
                    bar.set_postfix(loss=f"{np.mean(losses):.3f}", plcc=f"{plcc:.3f}")
                    losses.clear()
        self.model.load(self.out)

    def _train_step(self) -> float:
        schedule = self.schedule
        rng = np.random.default_rng([schedule.seed, self.step])
        warm = min(1.0, (self.step + 1) / 100)
        fall = 0.5 * (1.0 + np.cos(np.pi * self.step / schedule.steps))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * warm * (0.02 + 0.98 * fall)
        self.model.train()
        torch.manual_seed(schedule.seed + self.step)  # a resumed run drops out what it would have
        batch = self.train.batch(self._rows(rng), rng)
        loss = self.model.loss(batch, (self.step + 1) / schedule.steps)
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._add_to_average()
        return float(loss.detach())

    def _add_to_average(self) -> None:
        """Exponential; over fewer steps at first, for the initial weights are worth nothing."""
        share = max(1.0 / AVERAGED_STEPS, 9.0 / (self.step + 9.0))
        for mean, parameter in zip(self.average, self.learned, strict=True):
            mean.lerp_(parameter.detach(), share)

    @contextmanager
    def _averaged(self) -> Iterator[Learner[BatchT]]:
        """The model with the averaged weights in it."""
        self._swap()
        try:
            yield self.model
        finally:
            self._swap()

    def _swap(self) -> None:
        for i, parameter in enumerate(self.learned):
            parameter.data, self.average[i] = self.average[i], parameter.data

    def _rows(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Every patient is drawn as often, however many slices there are of each."""
        _, inverse, counts = np.unique(self.train.patients, return_inverse=True, return_counts=True)
        weight = 1.0 / counts[inverse] / len(counts)
        return rng.choice(len(self.train), self.schedule.batch, p=weight)

    def _validate(self, loss: float) -> float:
        truth = self.validation.scores
        with self._averaged() as model:
            predicted = model.predict(self.validation)
            plcc = {name: _plcc(predicted[:, a], truth[:, a]) for a, name in enumerate(ATTRIBUTES)}
            mean = float(np.mean(list(plcc.values())))
            self.curve.append({"step": self.step, "loss": loss, "mean": mean, **plcc})
            if model.ready and mean > self.best:
                self.best, self.stale = mean, 0
                model.save(self.out)
            elif model.ready:
                self.stale += 1
        self._checkpoint()
        curve = pd.DataFrame(self.curve)
        curve.to_csv(self.out / "learning-curve.csv", index=False)
        _plot(curve, self.out / "learning-curve.png")
        return mean

    def _checkpoint(self) -> None:
        """Weights, optimizer and counters, each file replaced atomically, the counters last."""
        last = self.out / "last"
        self.model.save(last)
        with self._averaged() as model:
            model.save(last / "average")
        for optimizer in self.optimizers:
            state = optimizer.state_dict()["state"]
            tensors = {f"{i}.{k}": v.clone() for i, s in state.items() for k, v in s.items()}
            with written_whole(last / _file_of(optimizer)) as part:
                save_file(tensors, part)
        counters = {"step": self.step, "best": self.best, "stale": self.stale, "curve": self.curve}
        with written_whole(last / "state.json") as part:
            part.write_text(json.dumps(counters))

    def _resume(self) -> None:
        last = self.out / "last"
        try:
            self._read(last)
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise ResumeError(
                f"{last} holds a run of another version, of another model or cut off, that cannot "
                f"go on: delete it, or give another folder as --out. {error}"
            ) from error

    def _read(self, last: Path) -> None:
        with self._averaged() as model:
            model.load(last / "average")
        self.model.load(last)
        for optimizer in self.optimizers:
            saved = optimizer.state_dict()
            for key, tensor in load_file(last / _file_of(optimizer)).items():
                index, name = key.split(".")
                saved["state"].setdefault(int(index), {})[name] = tensor
            optimizer.load_state_dict(saved)
        counters = json.loads((last / "state.json").read_text())
        self.step, self.best = counters["step"], counters["best"]
        self.stale, self.curve = counters["stale"], counters["curve"]


def _optimizers(
    learned: list[nn.Parameter], matrices: list[nn.Parameter], rate: float
) -> list[torch.optim.Optimizer]:
    """AdamW and, where there are matrices to learn, Muon."""
    theirs = {id(p) for p in matrices}
    rest = [p for p in learned if id(p) not in theirs]
    matrices = [p for p in learned if id(p) in theirs]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([{"params": rest, "initial_lr": rate}], weight_decay=WEIGHT_DECAY)
    ]
    if matrices:
        group = {"params": matrices, "initial_lr": rate * MATRIX_RATE}
        found.append(
            torch.optim.Muon([group], weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        )
    return found


def _file_of(optimizer: torch.optim.Optimizer) -> str:
    return f"{type(optimizer).__name__.lower()}.safetensors"


def _plot(curve: pd.DataFrame, path: Path) -> None:
    """Training loss and validation PLCC over steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot(curve["step"], curve["loss"])
    left.set(xlabel="step", ylabel="training loss")
    for name in ATTRIBUTES:
        right.plot(curve["step"], curve[name], label=name.replace("_", " "))
    right.set(xlabel="step", ylabel="validation PLCC")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def _plcc(predicted: Array, truth: NDArray[np.float32]) -> float:
    """Pearson's correlation; 0 where one side is constant: it tells nothing."""
    if np.ptp(predicted) == 0 or np.ptp(truth) == 0:
        return 0.0
    return float(np.corrcoef(predicted, truth)[0, 1])
