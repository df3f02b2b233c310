"""What a slice costs, learnt from batches: pure, no clock runs."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.batching.pace import AT_THE_DOOR, BEFORE_PREPARING, Pace

MAX = 8
SECONDS = st.floats(0, 100, allow_nan=False)


def run(pace: Pace, ran: int, seconds: float, now: float) -> float:
    """One batch, alone, that takes so long; the clock after it."""
    pace.enter(max(ran, 1), now, now)
    pace.leave(ran, now + seconds)
    return now + seconds


def taught(cost: float) -> tuple[Pace, float]:
    """A pace after many full batches, and the clock."""
    pace, now = Pace(MAX), 5.0
    for _ in range(60):
        now = run(pace, MAX, MAX * cost, now)
    return pace, now


def test_nothing_is_too_late_as_long_as_no_full_batch_was_seen() -> None:
    pace = Pace(MAX)
    assert pace.expected(1000, 7.0, AT_THE_DOOR) == 7.0
    run(pace, MAX - 1, 30.0, 7.0)
    run(pace, 0, 30.0, 40.0)
    assert pace.expected(1000, 80.0, AT_THE_DOOR) == 80.0


def test_slices_are_expected_one_behind_the_other() -> None:
    pace, now = taught(0.01)
    assert pace.expected(50, now, AT_THE_DOOR) == pytest.approx(now + 0.5)
    assert pace.expected(1, now, AT_THE_DOOR) == now, (
        "with nothing before it, running it is the only test"
    )
    assert pace.enter(MAX, now, now) == now, "and it goes in any case"
    assert pace.enter(MAX, now, now) == pytest.approx(now + 0.16)
    assert pace.expected(4, now + 0.05, AT_THE_DOOR) == pytest.approx(now + 0.2), (
        "what ran so far is done"
    )
    assert pace.expected(4, now + 1.0, AT_THE_DOOR) == pytest.approx(now + 1.04), "late already"
    pace.leave(MAX, now + 0.08)
    assert pace.expected(4, now + 0.08, AT_THE_DOOR) == pytest.approx(now + 0.2)


def test_preparation_counts_where_it_is_the_limit() -> None:
    pace, now = Pace(MAX), 0.0
    for _ in range(60):  # prepared in 0.8 s while the one before takes 0.1 s
        pace.enter(MAX, now, now + 0.8)
        pace.leave(MAX, now + 0.9)
        now += 0.8
    assert pace.seconds(AT_THE_DOOR) == pytest.approx(0.1, rel=1e-3)


def test_unsteady_batches_are_promised_later() -> None:
    steady, _ = taught(0.01)
    unsteady, now = Pace(MAX), 0.0
    for number in range(60):
        now = run(unsteady, MAX, 0.04 if number % 2 else 0.12, now)
    at_the_door = unsteady.expected(9, now, AT_THE_DOOR)
    assert at_the_door > unsteady.expected(9, now, BEFORE_PREPARING) > now + 9 * 0.01 * 0.9
    assert unsteady.seconds(AT_THE_DOOR) > 1.5 * steady.seconds(AT_THE_DOOR)


def test_small_batches_and_failures_say_nothing_unless_they_are_faster() -> None:
    pace, now = taught(0.01)
    before = pace.seconds(AT_THE_DOOR)
    now = run(pace, 1, 0.02, now)
    now = run(pace, 0, 0.0, now)
    assert pace.seconds(AT_THE_DOOR) == before
    for _ in range(60):
        now = run(pace, 2, 0.01, now)
    assert pace.seconds(AT_THE_DOOR) == pytest.approx(0.005, rel=0.05)


@given(
    st.lists(st.tuples(st.integers(0, MAX), SECONDS), max_size=30),
    st.integers(1, MAX),
    st.floats(0.001, 1.0),
)
@example(past=[(8, 3.0)], ran=1, seconds=0.5)  # small batches that are not faster than one stall
def test_no_past_spoils_the_future(past: list[tuple[int, float]], ran: int, seconds: float) -> None:
    """Whatever stalls there were: steady batches of any size bring the estimate down to theirs."""
    pace, now = Pace(MAX), 0.0
    for size, stall in past:
        now = run(pace, size, stall, now)
    for _ in range(200):
        now = run(pace, ran, ran * seconds, now)
    assert pace.seconds(AT_THE_DOOR) <= 1.01 * seconds


@given(st.lists(SECONDS, max_size=20), st.integers(0, 2), st.integers(1, 300), SECONDS)
def test_more_slices_are_never_expected_earlier_nor_in_the_past(
    costs: list[float], under_way: int, slices: int, later: float
) -> None:
    pace, now = Pace(MAX), 0.0
    for cost in costs:
        now = run(pace, MAX, cost, now)
    for _ in range(under_way):
        pace.enter(MAX, now, now)
    now += later
    assert (
        now
        <= pace.expected(slices, now, AT_THE_DOOR)
        <= pace.expected(slices + 1, now, AT_THE_DOOR)
    )
