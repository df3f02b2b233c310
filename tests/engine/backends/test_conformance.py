"""What every backend must do, whatever it runs on: the one suite for all of them.

The oracle is ONNX Runtime over plain arrays: the whole prefix in one run, with an empty cache.

    python -m pytest tests/engine/backends -m gpu --junitxml=gpu.xml

runs it on a GPU; the report's header names the device.
"""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from engine.backends.base import LANES, Decoder, Graphs
from engine.decoding.greedy import greedy
from engine.decoding.verify import drafted
from engine.errors import BackendError
from tests.support import graphs as tiny

from .conftest import MAX_BATCH, Backend

Found = tuple[NDArray[np.int64], NDArray[np.float32]]
LENGTH = tiny.SHAPES.max_length


class Oracle:
    """Plain runs of the same files."""

    def __init__(self, folder: Path, half: bool) -> None:
        self.encoder, self.decoder = (
            ort.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )
        self.cache = np.float16 if half else np.float32

    def guesses(self, pixels: NDArray[np.float32]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.encoder.run(["draft_levels"], {"pixels": pixels})[0]
        return found

    def __call__(self, pixels: NDArray[np.float32], tokens: NDArray[np.int64]) -> Found:
        """What follows each of `tokens` (B, T), which stand at the cache's beginning."""
        names = ["cross_key_0", "cross_value_0"]
        cross = self.encoder.run(names, {"pixels": pixels})
        empty = np.zeros((len(tokens), tiny.HEADS, LENGTH, tiny.HEAD_DIM), self.cache)
        feeds = {
            "tokens": tokens,
            "start": np.zeros(len(tokens), np.int64),
            "past_key_0": empty,
            "past_value_0": empty,
            **dict(zip(names, cross, strict=True)),
        }
        following, logprobs = self.decoder.run(["next_tokens", "level_logprobs"], feeds)
        return following, logprobs


@pytest.fixture
def oracle(backend: Backend, graphs: Graphs, tmp_path: Path) -> Oracle:
    """Over the files that `graphs` has opened."""
    return Oracle(tmp_path, backend.half)


def words(rows: int, length: int, seed: int = 0) -> NDArray[np.int64]:
    """Random tokens (B, T)."""
    return np.random.default_rng(seed).integers(0, tiny.VOCABULARY, (rows, length))


def run(decoder: Decoder, tokens: NDArray[np.int64], start: int | list[int] = 0) -> Found:
    """One step; `start` is one position for all rows, or each row's."""
    positions = np.broadcast_to(np.array(start, np.int64), (len(tokens),))
    return decoder.step(tokens, positions.copy())


def same(found: Found, wanted: Found, backend: Backend) -> None:
    np.testing.assert_allclose(found[1], wanted[1], atol=backend.tolerance, rtol=0)
    if not backend.half:
        np.testing.assert_array_equal(found[0], wanted[0])


@pytest.mark.parametrize("rows", [1, 3, MAX_BATCH])
def test_token_after_token_equals_the_whole_prefix(
    backend: Backend, graphs: Graphs, oracle: Oracle, rows: int
) -> None:
    pixels, tokens = tiny.pixels(rows), words(rows, LENGTH)
    decoder = graphs.encode(pixels)
    assert decoder.rows == rows
    following, logprobs = oracle(pixels, tokens)
    for t in range(LENGTH):
        found = run(decoder, tokens[:, t : t + 1], t)
        same(found, (following[:, t : t + 1], logprobs[:, t : t + 1]), backend)


def test_a_pass_of_many_tokens_equals_single_steps(
    backend: Backend, graphs: Graphs, oracle: Oracle
) -> None:
    pixels, tokens = tiny.pixels(2), words(2, LENGTH)
    decoder = graphs.encode(pixels)
    following, logprobs = oracle(pixels, tokens)
    for first, last in ((0, 7), (7, 8), (8, LENGTH)):
        found = run(decoder, tokens[:, first:last], first)
        same(found, (following[:, first:last], logprobs[:, first:last]), backend)


def test_going_back_overwrites(backend: Backend, graphs: Graphs, oracle: Oracle) -> None:
    pixels, tokens = tiny.pixels(2), words(2, 8)
    decoder = graphs.encode(pixels)
    run(decoder, tokens)
    changed = np.concatenate([tokens[:, :3], words(2, 4, seed=9)], axis=1)
    following, logprobs = oracle(pixels, changed)
    found = run(decoder, changed[:, 3:], 3)
    same(found, (following[:, 3:], logprobs[:, 3:]), backend)


def test_rows_stand_at_positions_of_their_own(
    backend: Backend, graphs: Graphs, oracle: Oracle
) -> None:
    pixels, tokens = tiny.pixels(3), words(3, 12)
    decoder = graphs.encode(pixels)
    run(decoder, tokens[:, :9])
    start = [2, 9, 5]
    found = run(decoder, np.stack([tokens[i, s : s + 3] for i, s in enumerate(start)]), start)
    following, logprobs = oracle(pixels, tokens)
    for row, first in enumerate(start):
        wanted = following[row : row + 1, first : first + 3], logprobs[row, first : first + 3][None]
        same((found[0][row : row + 1], found[1][row : row + 1]), wanted, backend)


def test_the_last_row_may_take_a_finished_ones_place(
    backend: Backend, graphs: Graphs, oracle: Oracle
) -> None:
    pixels, tokens = tiny.pixels(4), words(4, 10)
    decoder = graphs.encode(pixels)
    run(decoder, tokens[:, :6])
    decoder.move(3, 1)
    places = [0, 3, 2]
    found = run(decoder, tokens[places, 6:], 6)
    following, logprobs = oracle(pixels, tokens)
    same(found, (following[places, 6:], logprobs[places, 6:]), backend)


def test_the_encoder_may_guess(graphs: Graphs, oracle: Oracle) -> None:
    pixels = tiny.pixels(3)
    np.testing.assert_array_equal(graphs.encode(pixels).guesses, oracle.guesses(pixels))


def test_an_encoder_without_guesses_will_do(backend: Backend, tmp_path: Path) -> None:
    graphs = backend.open(tmp_path, guessing=False)
    assert graphs.encode(tiny.pixels(2)).guesses is None
    graphs.close()


def test_batches_in_two_lanes_do_not_disturb_each_other(
    backend: Backend, graphs: Graphs, oracle: Oracle
) -> None:
    batches = [(tiny.pixels(rows, seed), words(rows, 10, seed)) for rows, seed in ((3, 1), (4, 2))]
    decoders = [graphs.encode(pixels) for pixels, _ in batches]
    wanted = [oracle(*batch) for batch in batches]
    for t in range(10):
        for (_, tokens), decoder, (following, logprobs) in zip(
            batches, decoders, wanted, strict=True
        ):
            found = run(decoder, tokens[:, t : t + 1], t)
            same(found, (following[:, t : t + 1], logprobs[:, t : t + 1]), backend)


def test_a_lane_is_clean_for_the_next_batch(
    backend: Backend, graphs: Graphs, oracle: Oracle
) -> None:
    for seed in range(2 * LANES + 1):
        rows = 1 + seed % MAX_BATCH
        pixels, tokens = tiny.pixels(rows, seed), words(rows, LENGTH, seed)
        decoder = graphs.encode(pixels)
        same(run(decoder, tokens), oracle(pixels, tokens), backend)
        decoder.release()


def test_results_are_the_callers_to_keep(graphs: Graphs) -> None:
    decoder = graphs.encode(tiny.pixels(2))
    first = run(decoder, words(2, 5))
    copies = [array.copy() for array in first]
    run(decoder, words(2, 5, seed=3))
    graphs.encode(tiny.pixels(2, 8))
    for array, copy in zip(first, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_lanes_run_out_and_come_back(graphs: Graphs) -> None:
    decoders = [graphs.encode(tiny.pixels(1)) for _ in range(LANES)]
    with pytest.raises(BackendError, match="release"):
        graphs.encode(tiny.pixels(1))
    decoders[0].release()
    decoders[0].release()
    another = graphs.encode(tiny.pixels(1))
    with pytest.raises(BackendError, match="lanes"):
        graphs.encode(tiny.pixels(1))
    another.release()


def test_a_released_decoder_says_so(graphs: Graphs) -> None:
    decoder = graphs.encode(tiny.pixels(2))
    decoder.release()
    with pytest.raises(BackendError, match="released"):
        run(decoder, words(2, 1))
    with pytest.raises(BackendError, match="released"):
        decoder.move(1, 0)


def test_a_forgotten_decoder_gives_its_lane_back(graphs: Graphs) -> None:
    for seed in range(LANES + 2):
        run(graphs.encode(tiny.pixels(1, seed)), words(1, 1))


@pytest.mark.parametrize("rows", [0, MAX_BATCH + 1])
def test_batches_of_the_wrong_size_are_refused(graphs: Graphs, rows: int) -> None:
    with pytest.raises(BackendError, match=f"1 to {MAX_BATCH} rows; got {rows}"):
        graphs.encode(tiny.pixels(rows))


def test_a_failed_run_takes_no_lane(graphs: Graphs) -> None:
    for _ in range(LANES + 1):
        with pytest.raises(BackendError, match="encoder failed"):
            graphs.encode(np.zeros((1, 5, 7, 7), np.float32))
    graphs.encode(tiny.pixels(1)).release()


def test_nan_is_an_error(backend: Backend, tmp_path: Path) -> None:
    graphs = backend.open(tmp_path, nan=True)
    with pytest.raises(BackendError, match="NaN"):
        run(graphs.encode(tiny.pixels(1)), words(1, 2))
    graphs.close()


def test_graphs_that_contradict_the_manifest_are_refused(backend: Backend, tmp_path: Path) -> None:
    made = tiny.write(tmp_path, half=backend.half)
    fields = {name: getattr(made.shapes, name) for name in made.shapes.__slots__}
    for name, wrong in (("max_length", 21), ("heads", 3), ("layers", 2), ("channels", 1)):
        odd = tiny.TinyGraphs(
            encoder=made.encoder,
            decoder=made.decoder,
            shapes=type(made.shapes)(**{**fields, name: wrong}),
        )
        with pytest.raises(BackendError, match="export"):
            backend.open_files(odd)


def test_memory_is_held_from_the_start_to_the_end(graphs: Graphs) -> None:
    held = graphs.memory()
    assert sum(held.values()) > 2 * 4 * MAX_BATCH * tiny.HEADS * LENGTH * tiny.HEAD_DIM
    for seed in range(3):
        decoder = graphs.encode(tiny.pixels(MAX_BATCH, seed))
        run(decoder, words(MAX_BATCH, LENGTH))
        decoder.release()
    assert graphs.memory() == held
    graphs.close()
    graphs.close()
    assert sum(graphs.memory().values()) == 0
    with pytest.raises(BackendError, match="closed"):
        graphs.encode(tiny.pixels(1))


def test_a_decoder_outlives_its_graphs_harmlessly(graphs: Graphs) -> None:
    decoder = graphs.encode(tiny.pixels(1))
    graphs.close()
    with pytest.raises(BackendError, match="closed"):
        run(decoder, words(1, 1))
    decoder.release()
    with pytest.raises(BackendError, match="closed"):
        graphs.encode(tiny.pixels(1))


def test_one_thread_encodes_while_another_decodes(
    backend: Backend, graphs: Graphs, oracle: Oracle
) -> None:
    wrong: list[AssertionError] = []

    def work(seed: int) -> None:
        for turn in range(8):
            pixels, tokens = tiny.pixels(2, seed + turn), words(2, 12, seed + turn)
            decoder = graphs.encode(pixels)
            try:
                same(run(decoder, tokens), oracle(pixels, tokens), backend)
            except AssertionError as error:
                wrong.append(error)
            decoder.release()

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(LANES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_captions_drafted_and_greedy_are_the_same(backend: Backend, graphs: Graphs) -> None:
    pixels = tiny.pixels(MAX_BATCH, 5)
    wanted = greedy(graphs.encode(pixels), tiny.RULES)
    known = [row.tokens for row in wanted]

    class Mixed:
        """Right for some rows, then wrong."""

        def draft(self, accepted: object, guesses: object) -> list[int]:
            taken = list(accepted) if isinstance(accepted, list) else []
            for tokens in known:
                if list(tokens[: len(taken)]) == taken:
                    return [*tokens[len(taken) : len(taken) + 4], 0]
            return [0, 0]

    found = drafted(graphs.encode(pixels), Mixed(), tiny.RULES)
    assert [row.tokens for row in found] == known
    assert sum(row.passes for row in found) < sum(row.passes for row in wanted)
