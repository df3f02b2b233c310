"""The training loop: it goes on as if nothing happened, averages weights, trains some by Muon."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from engine.template import ATTRIBUTES
from training.loop import Learner, Loop, ResumeError, Schedule

Pair = tuple[Tensor, Tensor]
TRUTH = np.eye(len(ATTRIBUTES), dtype=np.float32)


class Noisy:
    """Readers who waver: features, and the features with an opinion added anew in every batch."""

    def __init__(self) -> None:
        self.scores = np.random.default_rng(1).normal(size=(64, len(TRUTH))).astype(np.float32)
        self.patients = np.repeat(np.array(list("abcdefgh")), 8)

    def __len__(self) -> int:
        return len(self.scores)

    def batch(self, rows: NDArray[np.intp], rng: np.random.Generator | None = None) -> Pair:
        seen = self.scores[rows]
        opinion = rng.normal(0.0, 3.0, seen.shape) if rng is not None else 0.0
        return torch.from_numpy(seen), torch.from_numpy(np.float32(seen + opinion))


class Linear(Learner[Pair]):
    """One matrix; it should become the identity. Stops as by Ctrl-C after so many steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.matrix, self.left = nn.Linear(len(TRUTH), len(TRUTH), bias=False), stop_after

    def loss(self, batch: Pair, _progress: float) -> Tensor:
        if self.left == 0:
            raise KeyboardInterrupt
        self.left = None if self.left is None else self.left - 1
        return functional.mse_loss(self.expected(batch), batch[1])

    def expected(self, batch: Pair) -> Tensor:
        found: Tensor = self.matrix(batch[0])
        return found


class Deep(Linear):
    """A matrix before it, between hidden layers."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(stop_after)
        self.hidden = nn.Linear(len(TRUTH), len(TRUTH), bias=False)

    def matrices(self) -> list[nn.Parameter]:
        return list(self.hidden.parameters())

    def expected(self, batch: Pair) -> Tensor:
        found: Tensor = self.matrix(self.hidden(batch[0]))
        return found


def train(
    out: Path, steps: int, stop_after: int | None = None, learner: type[Linear] = Linear
) -> None:
    """At a high rate, validated eight times."""
    data, schedule = Noisy(), Schedule(steps=steps, batch=4, rate=0.1, every=steps // 8)
    Loop(learner(stop_after), data, data, out, schedule).run()


def test_interrupted_run_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train(tmp_path / "whole", 80, learner=Deep)
    for steps in (14, 26):
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "parts", 80, steps, learner=Deep)
    train(tmp_path / "parts", 80, learner=Deep)
    for name in ("model.safetensors", "last/model.safetensors", "last/average/model.safetensors"):
        whole, parts = (load_file(tmp_path / run / name) for run in ("whole", "parts"))
        for weight in ("matrix.weight", "hidden.weight"):
            assert torch.equal(whole[weight], parts[weight]), (name, weight)


def test_muon_moves_hidden_matrices_alike_in_all_directions(tmp_path: Path) -> None:
    before = Deep().state_dict()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 8, 1, learner=Deep)
    after = load_file(tmp_path / "last" / "model.safetensors")

    def spread(name: str) -> float:
        moved = np.linalg.svd(after[name] - before[name], compute_uv=False)
        return float(moved[0] / moved[3])  # a batch of four has as many directions

    assert spread("hidden.weight") < 3.0 < spread("matrix.weight")


def test_average_is_nearer_to_the_truth_than_the_last_step(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):  # while the steps are long
        train(tmp_path, 1200, 601)
    last, average = (
        load_file(tmp_path / "last" / name)["matrix.weight"].numpy()
        for name in ("model.safetensors", "average/model.safetensors")
    )
    assert np.abs(average - TRUTH).mean() < 0.85 * np.abs(last - TRUTH).mean()


def test_run_of_another_version_or_model_is_not_resumed(tmp_path: Path) -> None:
    train(tmp_path, 8, learner=Deep)
    with pytest.raises(ResumeError, match="another folder"):
        train(tmp_path, 16, learner=Linear)
    (tmp_path / "last" / "muon.safetensors").rename(tmp_path / "last" / "optimizer.safetensors")
    with pytest.raises(ResumeError, match=r"muon\.safetensors"):
        train(tmp_path, 16, learner=Deep)
