"""Warm-up, alternation and the stop rule, with a clock that only work moves."""

from collections import Counter

import pytest

from benchmarks.harness.timing import StopRule, alternate, measure


class Clock:
    """Seconds that pass only while somebody works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: float) -> str:
        self.now += seconds
        self.calls.append(name)
        return name


def test_contestants_take_turns_and_warm_up_does_not_count() -> None:
    clock = Clock()
    rule = StopRule(warmup=3, iterations=40, seconds=1.0)
    seconds = {"a": 1.0, "b": 3.0}
    timed = alternate(
        {name: (lambda _, name=name: clock.work(name, seconds[name])) for name in seconds},
        rule,
        clock=clock,
    )
    assert {name: found.seconds for name, found in timed.items()} == {
        "a": [1.0] * 40,
        "b": [3.0] * 40,
    }
    assert Counter(clock.calls) == {"a": 43, "b": 43}
    rounds = [tuple(clock.calls[i : i + 2]) for i in range(0, len(clock.calls), 2)]
    assert all(set(both) == {"a", "b"} for both in rounds), "each round has each contestant once"
    assert len(set(rounds)) == 2, "neither always goes first"


@pytest.mark.parametrize(
    ("each", "expected"),
    [(1.0, 30), (0.1, 100)],
    ids=["slow work: the iterations decide", "fast work: the seconds decide"],
)
def test_both_limits_must_be_reached(each: float, expected: int) -> None:
    clock = Clock()
    timed = measure(lambda _: clock.work("", each), StopRule(seconds=9.95), clock=clock)
    assert len(timed.seconds) == expected


def test_work_is_numbered_through_the_warm_up() -> None:
    numbers: list[int] = []
    timed = measure(
        lambda number: numbers.append(number) or number, StopRule(warmup=2, iterations=3, seconds=0)
    )
    assert numbers == [0, 1, 2, 3, 4]
    assert timed.results == [2, 3, 4]


def test_what_fails_is_no_measurement() -> None:
    def fail(number: int) -> None:
        if number == 12:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure(fail, StopRule(seconds=0))


def test_only_the_full_rule_is_publishable() -> None:
    assert StopRule().publishable
    assert not StopRule(warmup=9).publishable
    assert not StopRule(iterations=29).publishable
    assert not StopRule(seconds=9.9).publishable
