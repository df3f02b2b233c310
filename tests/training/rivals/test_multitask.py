"""The image-only rivals: they learn, resume exactly, and judge by the saved weights alone."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from engine.template import ATTRIBUTES
from tests.training.test_model import tiny
from training.data.formats import read_slice, read_table
from training.loop import Loop, Schedule
from training.model import Captioner, SecondOrderStem
from training.rivals.__main__ import main
from training.rivals.base import Case, WeightsMissingError
from training.rivals.judge import list_cases, read_scores
from training.rivals.multitask import Multitask, MultitaskRival
from training.samples import Batch, Samples, Vocabulary, Words
from training.tokenizer import build_tokenizer

TASKS = ["classification", "regression"]


@pytest.mark.parametrize("task", TASKS)
def test_the_command_trains_resumes_and_judges(
    task: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"multitask-{task}"
    options = ["--batch", "2", "--every", "2"]
    assert main([name, str(data), "--out", str(tmp_path), "--steps", "4", *options]) == 0
    assert "| overall |" in capsys.readouterr().out
    said = pd.read_csv(tmp_path / "scores.csv")
    assert said[list(ATTRIBUTES)].to_numpy().min() >= 0
    assert said["split"].tolist().count("test") == 15
    assert said["split"].tolist().count("validation") == 10


class _Unplugged(Samples):
    """Power fails at the third batch."""

    def batch(self, rows: NDArray[np.intp], rng: np.random.Generator | None = None) -> Batch:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked == 3:
            raise KeyboardInterrupt
        return super().batch(rows, rng)


def test_a_run_cut_in_two_is_the_run(data: Path, tmp_path: Path) -> None:
    rows, vocabulary = read_table(data), Vocabulary.of(build_tokenizer())
    stem = SecondOrderStem(tiny())

    def loop(kind: type[Samples], out: Path) -> Loop[Batch]:
        parts = [
            part(data, rows[rows["split"] == name], stem, vocabulary)
            for part, name in ((kind, "train"), (Samples, "validation"))
        ]
        torch.manual_seed(7)
        schedule = Schedule(steps=4, batch=2, every=2)
        return Loop(Multitask(tiny(), "classification"), parts[0], parts[1], out, schedule)

    loop(Samples, tmp_path / "whole").run()
    with pytest.raises(KeyboardInterrupt):
        loop(_Unplugged, tmp_path / "halves").run()
    loop(Samples, tmp_path / "halves").run()
    ends = [load_file(tmp_path / run / "last" / "model.safetensors") for run in ("whole", "halves")]
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())


def test_an_encoder_starts_as_the_captioner_s_does() -> None:
    torch.manual_seed(7)
    rival = Multitask(tiny(), "regression")
    torch.manual_seed(7)
    captioner = Captioner(tiny())
    theirs = rival.encoder.state_dict()
    for name, tensor in captioner.stem.state_dict(prefix="stem.").items():
        assert torch.equal(theirs[name], tensor)
    for name, tensor in captioner.encoder.state_dict(prefix="encoder.").items():
        assert torch.equal(theirs[name], tensor)


def test_heads_learn_what_they_are_shown() -> None:
    """Two kinds of statistics with scores 0 and 4: both heads tell them apart at once."""
    pixels = torch.zeros(8, 3, 128, 128)
    pixels[4:] = torch.randn(4, 3, 128, 128)
    soft = torch.zeros(8, len(ATTRIBUTES), 5)
    soft[:4, :, 4] = 1.0
    soft[4:, :, 0] = 1.0
    for task in TASKS:
        torch.manual_seed(0)
        model = Multitask(tiny(), task)  # type: ignore[arg-type]
        empty = torch.zeros(8, 1, dtype=torch.long)
        batch = Batch(
            statistics=model.encoder.stem.statistics(pixels),
            words=Words(inputs=empty, targets=empty, slots=empty, soft=soft),
            physics=torch.zeros(8, 0),
            maps=torch.zeros(8, 4, 0),
            kept=None,
        )
        learned = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(batch, 1.0).backward()
            optimizer.step()
        scores = model.eval().expected(batch)
        assert scores[:4].min() > 3.0
        assert scores[4:].max() < 1.0


def test_scores_of_another_data_set_are_refused(data: Path, tmp_path: Path) -> None:
    options = ["--batch", "2", "--every", "1", "--steps", "1"]
    assert main(["multitask-regression", str(data), "--out", str(tmp_path), *options]) == 0
    rows = read_table(data)
    assert np.isfinite(read_scores(tmp_path, rows)).all()
    changed = rows.assign(overall=0.0)
    with pytest.raises(ValueError, match="other rows"):
        read_scores(tmp_path, changed)


def test_no_checkpoint_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"training\.rivals"):
        MultitaskRival(tmp_path)


def test_cases_carry_the_clean_slice(data: Path) -> None:
    rows = read_table(data)
    test = rows[rows["split"] == "test"].head(3)
    for case, (_, row) in zip(list_cases(data, rows, test), test.iterrows(), strict=True):
        assert isinstance(case, Case)
        assert case.clean is not None
        first = rows[rows["patient"] == row["patient"]]["file"].iloc[0]
        np.testing.assert_array_equal(case.clean, read_slice(data / first))
