"""The public door: arrays in, assessments out."""

import gc
import json
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import (
    Assessment,
    BackendUnavailableError,
    Engine,
    EngineClosedError,
    NonFiniteError,
    Score,
    ShapeError,
)
from engine.dicom.reader import read_slices
from engine.template import ATTRIBUTES, parse


def test_a_slice_gives_an_assessment(engine: Engine, chest: NDArray[np.float32]) -> None:
    found = engine.assess(chest)
    assert isinstance(found, Assessment)
    assert list(found.scores) == list(ATTRIBUTES)
    assert found.follows_template
    assert parse(found.caption).keys() == found.scores.keys()
    for score in found.scores.values():
        assert 0 <= score.value <= 4
        assert 0 <= score.confidence <= 1
        assert sum(score.probabilities) == pytest.approx(1)
    assert found.score_origin == "simulated readers"
    assert found.report.source == "template"
    assert found.timings.total > 0
    assert json.loads(found.to_json())["caption"] == found.caption
    assert "simulated readers" in str(found)


@pytest.mark.parametrize(
    ("good", "bad", "attribute"),
    [
        ("chest-original", "chest-low-dose", "noise"),
        ("chest-original", "chest-sparse-view", "artifacts"),
        ("abdomen-original", "abdomen-blurred", "sharpness"),
    ],
)
def test_degraded_examples_score_worse_where_they_were_degraded(
    engine: Engine, examples: Path, good: str, bad: str, attribute: str
) -> None:
    first, second = engine.assess([read_slices(examples / f"{n}.dcm")[0].hu for n in (good, bad)])
    assert isinstance(first, Assessment)
    assert isinstance(second, Assessment)
    assert second.scores[attribute].value < first.scores[attribute].value - 0.5
    if attribute != "sharpness":
        assert second.overall < first.overall


@pytest.mark.parametrize(
    ("value", "level", "words"),
    [
        (3.3, "excellent", "good to excellent"),
        (3.6, "good", "good to excellent"),
        (2.4, "fair", "fair"),
        (2.6, "poor", "poor to good"),
        (0.0, "bad", "bad"),
    ],
)
def test_words_say_where_score_and_caption_differ(value: float, level: str, words: str) -> None:
    assert Score(value=value, level=level, confidence=0.4, probabilities=(0.2,) * 5).words == words


def test_the_encoders_guess_spares_decoder_passes(
    engine: Engine, slices: list[NDArray[np.float32]]
) -> None:
    passes = [a.decoder_passes for a in engine.assess(slices) if isinstance(a, Assessment)]
    assert len(passes) == len(slices)
    assert sum(passes) <= 2 * len(slices), "without the guess it was 3.1 a caption"


def test_one_bad_slice_never_sinks_a_batch(engine: Engine, chest: NDArray[np.float32]) -> None:
    bad = chest.copy()
    bad[0, 0] = np.nan
    found = engine.assess(np.stack([chest, bad, chest]))
    assert isinstance(found, list)
    assert isinstance(found[1], NonFiniteError)
    assert isinstance(found[0], Assessment)
    assert isinstance(found[2], Assessment)
    assert found[0].caption == found[2].caption


def test_neighbours_and_batch_size_do_not_matter(
    engine: Engine, chest: NDArray[np.float32]
) -> None:
    alone = engine.assess(chest)
    assert isinstance(alone, Assessment)
    many = engine.assess([chest, chest[::-1], chest[:, ::-1] - 5, *[chest] * 7])
    for place in (0, 3, 9):
        other = many[place]
        assert isinstance(other, Assessment)
        assert other.caption == alone.caption
        assert other.overall == pytest.approx(alone.overall, abs=1e-4)


@pytest.mark.parametrize("shape", [(64, 64, 3), (2, 3, 4, 5), (0, 64, 64), (7,)])
def test_wrong_shapes_say_what_is_expected(engine: Engine, shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(H, W\)"):
        engine.assess(np.zeros(shape, np.uint8))


def test_threads_may_share_an_engine(engine: Engine, chest: NDArray[np.float32]) -> None:
    captions: list[str] = []

    def work() -> None:
        found = engine.assess(chest)
        assert isinstance(found, Assessment)
        captions.append(found.caption)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(captions) == 4
    assert len(set(captions)) == 1


def test_a_closed_engine_says_so(chest: NDArray[np.float32]) -> None:
    engine = Engine.load()
    engine.close()
    engine.close()
    with pytest.raises(EngineClosedError):
        engine.assess(chest)


def test_another_device_is_an_error_not_a_fallback() -> None:
    with pytest.raises(BackendUnavailableError, match="cuda"):
        Engine.load(device="cuda")


def test_an_assessed_slice_is_not_kept(chest: NDArray[np.float32]) -> None:
    """Long folders run in flat memory: nothing waits for the garbage collector."""
    with Engine.load() as engine:
        engine.assess(chest)
        slices = [chest.copy() for _ in range(60)]
        kept = [weakref.ref(hu) for hu in slices]
        gc.collect()
        gc.disable()
        try:
            engine.assess(slices)
            slices.clear()
            rooms = 3 * 8  # what threads may still have in hand
            assert sum(ref() is not None for ref in kept) <= rooms
        finally:
            gc.enable()
