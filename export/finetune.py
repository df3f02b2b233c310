"""`python -m export.finetune CHECKPOINT DATA --out FOLDER`: teach a captioner to judge CT slices.

For what the export reads and this project did not make: a BLIP, or a ViT/DeiT with GPT-2 or BERT,
pretrained on pictures. It learns the template's captions with the loss, loop and measures of
`training.finetune`; what it writes is a checkpoint folder for `python -m export`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from engine.errors import IqaError
from engine.prepare import ImageSpec, resample, to_pixels
from engine.template import ATTRIBUTES
from training.data.formats import folder_of, read_slice, read_table
from training.evaluate import table, written_levels
from training.finetune import caption_loss, finish
from training.loop import Learner, Loop, Schedule, add_device, add_schedule, schedule_of
from training.samples import Vocabulary, Words

from .about import read as read_about
from .sources.base import Source
from .sources.detect import open_source

RUN: Final = "run"
"""Folder of the loop's own checkpoints, within the one that is written."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Pixels (B, C, size, size) float32, and what to say of them."""

    pixels: Tensor
    words: Words


class Pictures:
    """The slices of one split, read and prepared when they are asked for.

    Args:
        data: folder that the rows' files are relative to.
        rows: every row names a `file`, a `patient` and a score for each attribute.
        spec: how the captioner wants its pixels.
        vocabulary: token ids.
        device: where batches are wanted.
    """

    def __init__(
        self,
        data: Path,
        rows: pd.DataFrame,
        spec: ImageSpec,
        vocabulary: Vocabulary,
        device: str = "cpu",
    ) -> None:
        self.scores = rows[list(ATTRIBUTES)].to_numpy(np.float32)
        self.patients = rows["patient"].to_numpy(np.str_)
        self._files = [data / name for name in rows["file"]]
        self._spec, self._vocabulary, self._device = spec, vocabulary, device

    def __len__(self) -> int:
        return len(self.scores)

    def batch(self, rows: NDArray[np.intp], rng: np.random.Generator | None = None) -> Batch:
        """The rows as a batch; with `rng`, turned and mirrored at random."""
        pixels = np.stack([self._pixels(self._files[row], rng) for row in rows])
        words = self._vocabulary.words(self.scores[rows], rng)
        return Batch(torch.from_numpy(pixels).to(self._device), words.to(self._device))

    def _pixels(self, file: Path, rng: np.random.Generator | None) -> NDArray[np.float32]:
        hu = resample(read_slice(file), self._spec.size, self._spec.resampling)
        if rng is not None:
            hu = np.rot90(hu, int(rng.integers(4)))
            hu = hu.T if rng.random() < 0.5 else hu
        return to_pixels(np.ascontiguousarray(hu), self._spec)


class CaptionLearner(Learner[Batch]):
    """A captioner that learns captions."""

    def __init__(self, source: Source, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.model, self._source, self._vocabulary = source.model, source, vocabulary

    def loss(self, batch: Batch, _progress: float) -> Tensor:
        """That of the caption."""
        logits = self._source.logits(batch.pixels, batch.words.inputs)
        return caption_loss(logits, batch.words, self._vocabulary)

    def expected(self, batch: Batch) -> Tensor:
        """Expected level at every slot of the greedy caption, (B, A)."""
        return written_levels(
            lambda tokens: self._source.logits(batch.pixels, tokens.to(batch.pixels.device)).cpu(),
            len(batch.pixels),
            self._vocabulary,
        )


def finetune(checkpoint: Path, data: Path, out: Path, schedule: Schedule) -> str:
    """Fine-tune a captioner and write it; an interrupted run goes on.

    Args:
        checkpoint: folder that `export.sources` reads.
        data: as `training.data.formats.read_table` takes it.
        out: checkpoint folder to write.
        schedule: how long and how fast.

    Returns:
        The agreement on test patients, a table in Markdown.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        FileNotFoundError, ValueError: the data set cannot.
    """
    rows, folder = read_table(data), folder_of(data)
    torch.manual_seed(schedule.seed)
    source = open_source(checkpoint)
    facts = source.facts
    vocabulary = Vocabulary(
        source.tokenizer, facts.tokens.prompt[0], facts.tokens.end, tuple(facts.tokens.levels)
    )
    parts = {
        name: Pictures(
            folder, rows[rows["split"] == name], facts.image.spec(), vocabulary, schedule.device
        )
        for name in ("train", "validation", "test")
    }
    learner = CaptionLearner(source, vocabulary)
    Loop(learner, parts["train"], parts["validation"], out / RUN, schedule).run()
    source.model.save_pretrained(out)
    source.tokenizer.save(str(out / "tokenizer.json"))
    was = read_about(checkpoint)
    about = {
        "name": f"{was.name or checkpoint.name}-ct-iqa",
        "licence": was.licence,
        "score_origin": rows["origin"].iloc[0],
        "windows": [(window.low, window.high) for window in facts.image.windows],
    }
    return table(finish(learner, parts["validation"], parts["test"], out, about))


def main(arguments: list[str] | None = None) -> int:
    """Command line; see `--help`."""
    args = _parser().parse_args(arguments)
    disable_progress_bar()
    try:
        schedule = replace(schedule_of(args, args.device), rate=args.rate)
        found = finetune(args.checkpoint, args.data, args.out, schedule)
    except (IqaError, FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(f"{found}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export.finetune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m export.finetune runs/blip runs/ct-iqa --out runs/blip-ct",
    )
    parser.add_argument("checkpoint", type=Path, help="folder of a BLIP or ViT + GPT-2/BERT")
    parser.add_argument("data", type=Path, help="data set: ours, LDCTIQAC 2023, or a CSV")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder; resumes there")
    add_schedule(parser)
    add_device(parser)
    parser.add_argument("--rate", type=float, default=5e-5, help="peak learning rate (5e-5)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
