"""When a batch takes, goes or waits: pure, no clock runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.batching.policy import Policy, Situation, Step

POLICY = Policy(max_batch=4, max_wait=0.5)


def situation(
    filled: int = 0,
    waiting: int = 0,
    *,
    free: bool = True,
    shared: bool = False,
    oldest: float = 10.0,
    now: float = 10.0,
) -> Situation:
    return Situation(
        filled=filled, waiting=waiting, encoder_free=free, shared=shared, oldest=oldest, now=now
    )


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        (situation(), (Step.WAIT, None)),
        (situation(waiting=1), (Step.TAKE, None)),
        (situation(filled=3, waiting=9), (Step.TAKE, None)),
        (situation(filled=4, waiting=9), (Step.GO, None)),
        (situation(filled=4, waiting=9, free=False), (Step.WAIT, None)),
        (situation(filled=1, free=False), (Step.WAIT, None)),
        (situation(filled=1), (Step.GO, None)),
        (situation(filled=1, shared=True), (Step.WAIT, 0.5)),
        (situation(filled=1, shared=True, now=10.25), (Step.WAIT, 0.25)),
        (situation(filled=1, shared=True, now=10.5), (Step.GO, None)),
        (situation(filled=4, shared=True), (Step.GO, None)),
    ],
)
def test_the_table(seen: Situation, step: tuple[Step, float | None]) -> None:
    assert POLICY.step(seen) == step


@given(
    st.integers(0, 4),
    st.integers(0, 9),
    st.booleans(),
    st.booleans(),
    st.floats(0, 2, allow_nan=False),
)
def test_bounds_hold_in_every_situation(
    filled: int, waiting: int, free: bool, shared: bool, age: float
) -> None:
    seen = situation(filled, waiting, free=free, shared=shared, now=10.0 + age)
    step, seconds = POLICY.step(seen)
    if step is Step.TAKE:
        assert filled < POLICY.max_batch
        assert waiting
    if step is Step.GO:
        assert filled
        assert free
    if filled and free and (not shared or age >= POLICY.max_wait):
        assert step is not Step.WAIT, "nobody waits longer than max_wait, or alone"
    assert seconds is None or (step is Step.WAIT and 0 < seconds <= POLICY.max_wait)
