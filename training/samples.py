"""Data-set rows -> tensors: pixels, caption tokens, and soft targets at the level words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm

from engine.prepare import resample, to_pixels
from engine.template import ATTRIBUTES, LEVELS, MAX_SCORE, caption, level_of

from .data.formats import read_slice
from .data.maps import MAPS
from .data.outsiders import outsider
from .model import CaptionerConfig, SecondOrderStem, Statistics, image_spec, turned

TOKEN_DROPOUT = 0.25
"""Share of a slice's tokens that training leaves out."""
WORD_SPREAD = 0.5
"""Standard deviation, in levels, of the words that training puts before a level."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The token ids that training and the template share."""

    tokenizer: Tokenizer
    bos: int
    eos: int
    levels: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Vocabulary:
        """Look the ids up in a tokenizer."""
        vocabulary = tokenizer.get_vocab()
        levels = tuple(vocabulary[f"▁{level}"] for level in LEVELS)
        return cls(tokenizer, vocabulary["[BOS]"], vocabulary["[EOS]"], levels)

    def tokens(self, levels: dict[str, int]) -> list[int]:
        """[BOS] caption [EOS]."""
        ids = self.tokenizer.encode(caption(levels), add_special_tokens=False).ids
        return [self.bos, *ids, self.eos]

    def slots(self, tokens: list[int]) -> list[int]:
        """Positions of the level words within `tokens`, in the order of `ATTRIBUTES`."""
        return [i for i, token in enumerate(tokens) if token in self.levels]

    def words(self, scores: NDArray[np.float32], rng: np.random.Generator | None = None) -> Words:
        """What to say of slices with these scores, (B, A); NaN where nobody knows.

        With `rng`, for training: the words before a level are off by a level now and then, so that
        each level is read from the slice and not from the words before it.
        """
        said = scores if rng is None else scores + rng.normal(0.0, WORD_SPREAD, scores.shape)
        if rng is not None:  # of an outsider anything may be said
            said = np.where(np.isnan(said), rng.uniform(0.0, MAX_SCORE, said.shape), said)
        tokens = [
            self.tokens({name: level_of(float(s)) for name, s in zip(ATTRIBUTES, row, strict=True)})
            for row in said
        ]
        padded = np.full((len(scores), max(map(len, tokens))), -1, np.int64)
        for line, ids in zip(padded, tokens, strict=True):
            line[: len(ids)] = ids
        return Words(
            inputs=torch.from_numpy(np.maximum(padded[:, :-1], 0)),
            targets=torch.from_numpy(padded[:, 1:]),
            slots=torch.tensor([self.slots(ids) for ids in tokens]) - 1,
            soft=torch.from_numpy(soft_levels(scores)),
        )


@dataclass(frozen=True, slots=True)
class Words:
    """What to say of a batch.

    Attributes:
        inputs, targets: (B, T) token ids; target -1 is padding.
        slots: (B, A) positions whose target is the level word of each attribute.
        soft: (B, A, K) probability of each level: a score between two levels belongs to both.
    """

    inputs: Tensor
    targets: Tensor
    slots: Tensor
    soft: Tensor

    def to(self, device: str) -> Words:
        """The same on another device."""
        return Words(**{part.name: getattr(self, part.name).to(device) for part in fields(self)})


@dataclass(frozen=True, slots=True)
class Batch:
    """One training batch.

    Attributes:
        statistics: what the stem measured, see `training.model.Statistics`.
        words: what to say of it.
        physics: (B, P) what was done and measured, see `physics`; P is 0 where nobody knows, and
            a row is NaN where it does not apply.
        maps: (B, S, M) where it was measured, for every token, see `maps`; like `physics`.
        kept: (B, S') the tokens to learn from; None for all.
    """

    statistics: Statistics
    words: Words
    physics: Tensor
    maps: Tensor
    kept: Tensor | None


class Samples:
    """All slices of one split, as the stem's statistics, kept in memory.

    Args:
        data: folder of the data set.
        manifest: its rows; every row names a `file` and a score for each attribute.
        stem: measures the statistics; nothing of that is learned.
        vocabulary: token ids.
        outsiders: pictures that are no CT slices to add, as another patient; their scores are
            NaN.
        device: where statistics are computed and kept, and batches are made.
    """

    def __init__(
        self,
        data: Path,
        manifest: pd.DataFrame,
        stem: SecondOrderStem,
        vocabulary: Vocabulary,
        outsiders: int = 0,
        device: str = "cpu",
    ) -> None:
        self.vocabulary, self._spec = vocabulary, image_spec(stem.config.size)
        self._stem, self._device = stem.to(device), device
        if device == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # the stem tells 1e-5 of a pixel's square
        self.scores = manifest[list(ATTRIBUTES)].to_numpy(np.float32)
        self.patients = manifest["patient"].to_numpy(np.str_)
        self.physics = torch.from_numpy(physics(manifest))
        self.maps = maps(data, manifest)
        found = [
            self._measure(read_slice(data / name))
            for name in tqdm(manifest["file"], desc="measure", unit="slice")
        ]
        if outsiders:
            found += self._outsiders(data, manifest, outsiders)
        self.measured = torch.cat([measured for measured, _ in found])
        self.quarters = torch.cat([quarter for _, quarter in found])
        self.physics, self.maps = self.physics.to(device), self.maps.to(device)

    def _measure(self, hu: NDArray[np.float32]) -> Statistics:
        """The stem's statistics, in half precision to save memory."""
        pixels = to_pixels(resample(hu, self._spec.size), self._spec)
        measured, quarter = self._stem.statistics(torch.from_numpy(pixels)[None].to(self._device))
        return measured.half(), quarter.half()

    def _outsiders(self, data: Path, manifest: pd.DataFrame, count: int) -> list[Statistics]:
        """Measure `count` pictures that are no CT slices, and enter them as unscored."""
        rng = np.random.default_rng(count)
        files = manifest["file"].to_numpy()
        found = []
        for _ in tqdm(range(count), desc="outsiders", unit="slice"):
            pair = rng.choice(files, 2)
            slices = [resample(read_slice(data / name), self._spec.size) for name in pair]
            found.append(self._measure(outsider(slices, rng)))
        unknown = np.full((count, len(ATTRIBUTES)), np.nan, np.float32)
        self.scores = np.concatenate([self.scores, unknown])
        self.patients = np.append(self.patients, np.full(count, "outsiders"))
        self.physics, self.maps = (
            torch.cat([known, known.new_full((count, *known.shape[1:]), torch.nan)])
            for known in (self.physics, self.maps)
        )
        return found

    def __len__(self) -> int:
        return len(self.scores)

    def batch(self, rows: NDArray[np.intp], rng: np.random.Generator | None = None) -> Batch:
        """The rows as a batch.

        With `rng`, for training: turned and mirrored at random, a share of the tokens left out,
        and words that are off, see `Vocabulary.words`.
        """
        words = self.vocabulary.words(self.scores[rows], rng)
        picks = torch.from_numpy(rows).to(self._device)
        statistics, local, kept = self._seen(picks, rng)
        return Batch(
            statistics=statistics,
            words=words.to(self._device),
            physics=self.physics[picks],
            maps=local,
            kept=kept,
        )

    def _seen(
        self, rows: Tensor, rng: np.random.Generator | None
    ) -> tuple[Statistics, Tensor, Tensor | None]:
        """Statistics, maps and kept tokens; with `rng`, turned alike and fewer."""
        statistics = self.measured[rows].float(), self.quarters[rows].float()
        cells, kept = self.maps[rows].float(), None
        if rng is not None:
            transpose, flip, mirror = (bool(v) for v in rng.integers(2, size=3))
            statistics = turned(statistics, transpose=transpose, flip=flip, mirror=mirror)
            dims = [d for d, wanted in ((-2, flip), (-1, mirror)) if wanted]
            cells = (cells.transpose(-1, -2) if transpose else cells).flip(dims)
            count = self._stem.config.grid**2
            order = rng.random((len(rows), count)).argsort(1)
            order = order[:, : round(count * (1.0 - TOKEN_DROPOUT))]
            kept = torch.from_numpy(order).to(self._device)
        return statistics, _by_token(cells), kept


def _by_token(cells: Tensor) -> Tensor:
    """(B, M, cells, cells) -> (B, tokens, M * 4): the four cells of each token."""
    fours = cells.unfold(2, 2, 2).unfold(3, 2, 2)  # (B, M, grid, grid, 2, 2)
    return fours.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def config_for(vocabulary: Vocabulary, manifest: pd.DataFrame) -> CaptionerConfig:
    """The captioner that this vocabulary and data set ask for."""
    return CaptionerConfig(
        vocab_size=vocabulary.tokenizer.get_vocab_size(),
        level_ids=vocabulary.levels,
        physics=physics(manifest).shape[1],
        maps=4 * len(MAPS) if "maps" in manifest else 0,
    )


_PHYSICS: Final[Mapping[str, tuple[Callable[[Any], Any], float, float]]] = {
    "noise_hu": (np.log2, 4.0, 1.2),
    "coarse_noise_hu": (np.log2, 2.5, 1.2),
    "mtf50": (np.log2, -2.8, 0.6),
    "streak_hu": (lambda hu: np.log2(1.0 + hu / 3.0), 2.0, 1.7),
    "detectability": (np.log2, 0.5, 1.5),
    "dose": (np.log2, -2.0, 2.0),
    "views": (np.log2, 7.3, 1.0),
    "missing_deg": (np.asarray, 1.0, 6.0),
    "motion_px": (np.asarray, 0.7, 1.7),
    "ring": (np.asarray, 0.001, 0.004),
    "metal_px": (np.asarray, 0.8, 1.9),
    "hardening": (np.asarray, 0.003, 0.008),
    "blur_px": (np.asarray, 0.8, 1.0),
    "smoothing": (np.asarray, 5.0, 14.0),
}
"""Column -> scale, and about its mean and deviation there."""


def physics(manifest: pd.DataFrame) -> NDArray[np.float32]:
    """What was done to every slice and measured on it, standardised: (N, P).

    P is 0 for data sets that do not know, as those with human scores.
    """
    if not _PHYSICS.keys() <= set(manifest.columns):
        return np.zeros((len(manifest), 0), np.float32)
    columns = [
        np.clip((scale(manifest[name].to_numpy(float)) - mean) / deviation, -4.0, 4.0)
        for name, (scale, mean, deviation) in _PHYSICS.items()
    ]
    return np.stack(columns, 1).astype(np.float32)


def maps(data: Path, manifest: pd.DataFrame) -> Tensor:
    """Where it was measured, standardised, half precision: (N, M, cells, cells).

    M is 0 for data sets that do not know.
    """
    if "maps" not in manifest:
        return torch.zeros((len(manifest), 0, 2, 2), dtype=torch.half)
    found = np.stack([np.load(data / name, allow_pickle=False) for name in manifest["maps"]])
    amplitudes = (np.log2(1.0 + found[:, :-1].astype(np.float32) / 3.0) - 2.0) / 1.7
    tissue = (found[:, -1:].astype(np.float32) - 0.14) / 0.3
    return torch.from_numpy(np.concatenate([amplitudes, tissue], 1)).half()


def soft_levels(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(…, A) scores -> (…, A, K): linear interpolation between the two nearest levels.

    The expected level of these probabilities is the score itself, so the level words learn a
    continuous scale (as in Q-Align, arXiv 2312.17090, whose targets are hard). Where the score is
    NaN, no level is favoured.
    """
    distance = np.abs(scores[..., None] - np.arange(len(LEVELS), dtype=np.float32))
    return np.where(np.isnan(distance), 1.0 / len(LEVELS), np.clip(1.0 - distance, 0.0, 1.0))
