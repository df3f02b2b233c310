"""Proof that a bundle says what its source says: same slices through torch and the runtime.

The runtime captions every slice by plain greedy decoding. The source's own code then reads each
caption in one pass: where its arg-max after every prefix is the caption's next token, its greedy
caption is that caption, by induction. On the first batch the source's own `generate` must agree,
which also proves prompt and BOS handling; wherever a caption differs, `generate` gives the
source's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from engine.backends.base import CacheType, Decoder
from engine.bundle.manifest import CalibrationPart, Precision
from engine.decoding.caption import Decoded
from engine.decoding.greedy import greedy
from engine.decoding.verify import drafted
from engine.scoring import level_probabilities, score
from engine.template import CT_IQA, LEVELS, MAX_SCORE, Template

from .errors import ParityError
from .runtime import BATCH, Runtime, opened
from .sources.base import Source

MAX_PROBABILITY_DIFFERENCE: Final = 1e-4
MAX_SCORE_DIFFERENCE: Final = 0.01 * MAX_SCORE
MIN_LEVEL_AGREEMENT: Final = 0.99

Pixels = NDArray[np.float32]
LogProbs = NDArray[np.float32]


@dataclass(slots=True)
class _Tally:
    """What the batches add up to."""

    captions: list[bool] = field(default_factory=list)
    alone: list[bool] = field(default_factory=list)
    drafted: list[bool] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)
    gaps: list[NDArray[np.float32]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    levels: list[bool] = field(default_factory=list)
    generated: int = 0


def measure(
    source: Source,
    folder: Path,
    slices: Sequence[Pixels],
    *,
    calibration: Mapping[str, CalibrationPart],
    cache: CacheType,
    template: Template | None = CT_IQA,
) -> dict[str, float]:
    """Compare a source with the graphs of a bundle folder on prepared slices.

    Args:
        source: the source.
        folder: holds the graphs.
        slices: (C, size, size) float32 each; at least one.
        calibration: of every attribute's score.
        cache: type of the graphs' keys and values.
        template: what captions follow and drafts come from, if any.

    Returns:
        `slices`; `captions_identical`, `batch_identical` (the caption alone equals the caption in
        a batch), `drafted_identical` (drafted decoding equals greedy), `level_agreement`, all
        0…1; `decoder_passes` of a drafted caption, on average; `probability_max` and
        `probability_mean` (absolute differences of the level words' probabilities after equal
        prefixes); `score_max` and `score_mean` (of the 0…4 scale); `score_slots` compared;
        `forced_template`: 1 if no caption named a level, so that scores were compared on the
        template's own words; `generate_checked`: slices on which the source's own `generate` ran.

    Raises:
        ParityError: the source's numbers are NaN or infinite.
        BackendError: a graph failed or gave NaN.
    """
    with opened(source, folder, template=template, cache=cache) as runtime:
        comparison = _Comparison(source, runtime, calibration, template or CT_IQA)
        for first in tqdm(range(0, len(slices), BATCH), desc="parity", unit="batch"):
            comparison.batch(np.stack(slices[first : first + BATCH]))
        forced = not comparison.tally.scores
        if forced:
            for first in range(0, len(slices), BATCH):
                comparison.forced(np.stack(slices[first : first + BATCH]))
    return _figures(comparison.tally, forced)


def gates(precision: Precision) -> dict[str, tuple[Literal["<=", ">="], float]]:
    """What a bundle must reach, by the names of `measure`.

    FP32: captions are identical and probabilities within 1e-4. FP16 and INT8: scores differ by at
    most 1 % of the scale on average, and 99 % of the levels agree. All: a caption depends neither
    on the batch nor on how it is decoded.
    """
    found: dict[str, tuple[Literal["<=", ">="], float]] = {
        "batch_identical": (">=", 1.0),
        "drafted_identical": (">=", 1.0),
        "score_mean": ("<=", MAX_SCORE_DIFFERENCE),
        "level_agreement": (">=", MIN_LEVEL_AGREEMENT),
    }
    if precision == "fp32":
        found["captions_identical"] = (">=", 1.0)
        found["probability_max"] = ("<=", MAX_PROBABILITY_DIFFERENCE)
    return found


def failed(figures: Mapping[str, float], precision: Precision) -> list[str]:
    """Names of the figures that miss their gate; NaN misses every gate."""
    return [
        name
        for name, (relation, limit) in gates(precision).items()
        if not (figures[name] <= limit if relation == "<=" else figures[name] >= limit)
    ]


def check(figures: dict[str, float], precision: Precision) -> None:
    """Refuse a bundle that does not say what its source says.

    Raises:
        ParityError: a figure misses its gate.
    """
    if names := failed(figures, precision):
        listed = ", ".join(f"{name} {value:.6g}" for name, value in figures.items())
        raise ParityError(
            f"the {precision} graphs differ from the source ({', '.join(names)}): {listed}. "
            "Nothing was written; --allow-drift writes the bundle all the same, with these figures "
            "in it",
            figures,
        )


class _Comparison:
    """Source and runtime side by side."""

    def __init__(
        self,
        source: Source,
        runtime: Runtime,
        calibration: Mapping[str, CalibrationPart],
        template: Template,
    ) -> None:
        self.source, self.calibration, self.tally = source, calibration, _Tally()
        self.template = template
        self.graphs, self.rules, self.drafter = runtime.graphs, runtime.rules, runtime.drafter

    def batch(self, pixels: Pixels) -> None:
        """Compare one batch by all measures."""
        decoder = self.graphs.encode(pixels)
        rows = greedy(decoder, self.rules)
        again = drafted(decoder, self.drafter, self.rules)
        decoder.release()
        self.tally.drafted += [a.tokens == b.tokens for a, b in zip(rows, again, strict=True)]
        self.tally.passes += [row.passes for row in again]
        decoder = self.graphs.encode(pixels[-1:])
        (single,) = greedy(decoder, self.rules)
        decoder.release()
        self.tally.alone.append(single.tokens == rows[-1].tokens)
        self._against_source(torch.from_numpy(pixels), rows)

    def _against_source(self, pixels: torch.Tensor, rows: Sequence[Decoded]) -> None:
        """The source reads the runtime's captions, and writes its own where they differ."""
        captions = [list(row.tokens) for row in rows]
        choices, expected = self._read(pixels, captions)
        same = [chosen == row for chosen, row in zip(choices, captions, strict=True)]
        ask = list(range(len(rows))) if not self.tally.generated else []
        ask += [i for i, identical in enumerate(same) if not identical and i not in ask]
        own = dict(zip(ask, self.source.generate(pixels[ask]), strict=True)) if ask else {}
        self.tally.generated += len(ask)
        for i, row in enumerate(rows):
            prefix = _equal(choices[i], captions[i])
            length = min(prefix + 1, len(captions[i]))
            self.tally.gaps.append(
                np.abs(np.exp(row.level_logprobs[:length]) - np.exp(expected[i][:length]))
            )
            self.tally.captions.append(same[i] and own.get(i, captions[i]) == captions[i])
        others = [i for i in own if own[i] != captions[i]]
        if others:
            _, found = self._read(pixels[others], [own[i] for i in others])
            for i, logprobs in zip(others, found, strict=True):
                expected[i] = logprobs
        for i, row in enumerate(rows):
            mine = self._slots(captions[i], row.level_logprobs)
            self._score(mine, self._slots(own.get(i, captions[i]), expected[i]))

    @torch.no_grad()
    def _read(
        self, pixels: torch.Tensor, captions: Sequence[Sequence[int]]
    ) -> tuple[list[list[int]], list[LogProbs]]:
        """What the source chooses after each prefix, and its log-probabilities of the levels."""
        prompt, longest = self.rules.prompt, max(map(len, captions))
        lines = [[*prompt, *row[:-1], *[self.rules.end] * (longest - len(row))] for row in captions]
        logits = self.source.logits(pixels, torch.tensor(lines))[:, len(prompt) - 1 :]
        if not bool(torch.isfinite(logits).all()):
            raise ParityError("the source itself gives NaN or infinity on these slices", {})
        levels = logits.log_softmax(-1)[..., list(self.rules.levels)].numpy()
        chosen = logits.argmax(-1).tolist()
        lengths = [len(row) for row in captions]
        return (
            [line[:length] for line, length in zip(chosen, lengths, strict=True)],
            [line[:length] for line, length in zip(levels, lengths, strict=True)],
        )

    def _slots(self, tokens: Sequence[int], logprobs: LogProbs) -> LogProbs:
        """Log-probabilities (slots, K) where a caption names its levels."""
        places = [i for i, token in enumerate(tokens) if token in self.rules.levels]
        return logprobs[places[: len(self.template.clauses)]]

    def _score(self, mine: LogProbs, wanted: LogProbs) -> None:
        """Compare the calibrated scores of a slice; one that is missing is off by the scale."""
        for i, name in enumerate(self.template.attributes[: max(len(mine), len(wanted))]):
            if i >= len(mine) or i >= len(wanted):
                self.tally.scores.append(MAX_SCORE)
                self.tally.levels.append(False)
                continue
            line = self.calibration[name]
            one, other = (
                score(level_probabilities(p[i]), slope=line.slope, intercept=line.intercept)
                for p in (mine, wanted)
            )
            self.tally.scores.append(abs(one.value - other.value))
            self.tally.levels.append(one.level == other.level)

    def forced(self, pixels: Pixels) -> None:
        """Scores where no caption names a level: both read a caption of the template."""
        middle = dict.fromkeys(self.template.clauses, len(LEVELS) // 2)
        words = self.source.encode(self.template.caption(middle))
        words = words[: self.rules.max_length - len(self.rules.prompt)]
        _, expected = self._read(torch.from_numpy(pixels), [words] * len(pixels))
        decoder = self.graphs.encode(pixels)
        found = self._force(decoder, words)
        decoder.release()
        for mine, wanted in zip(found, expected, strict=True):
            self._score(self._slots(words, mine), self._slots(words, wanted))

    def _force(self, decoder: Decoder, words: Sequence[int]) -> LogProbs:
        """The runtime's level log-probabilities (B, len(words), K) along given words."""
        line = np.array([*self.rules.prompt, *words[:-1]], np.int64)
        tokens = np.tile(line, (decoder.rows, 1))
        _, logprobs = decoder.step(tokens, np.zeros(decoder.rows, np.int64))
        return logprobs[:, len(self.rules.prompt) - 1 :]


def _equal(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    for i, (one, other) in enumerate(zip(a, b, strict=True)):
        if one != other:
            return i
    return len(a)


def _figures(tally: _Tally, forced: bool) -> dict[str, float]:
    gaps = np.concatenate(tally.gaps)
    return {
        "slices": float(len(tally.captions)),
        "captions_identical": float(np.mean(tally.captions)),
        "batch_identical": float(np.mean(tally.alone)),
        "drafted_identical": float(np.mean(tally.drafted)),
        "decoder_passes": float(np.mean(tally.passes)),
        "probability_max": float(gaps.max()),
        "probability_mean": float(gaps.mean()),
        "score_max": float(np.max(tally.scores)),
        "score_mean": float(np.mean(tally.scores)),
        "level_agreement": float(np.mean(tally.levels)),
        "score_slots": float(len(tally.scores)),
        "forced_template": float(forced),
        "generate_checked": float(tally.generated),
    }
