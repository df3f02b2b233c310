"""The breaker as a table of steps, on a clock that is turned by hand."""

import time
from email.utils import formatdate

import pytest

from engine import CircuitOpenError
from engine.reporting.client import retry_after
from engine.reporting.gate import Gate


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# steps: "ok", "fail", "fail N" (retry after N), "drop", "+N" (time passes); then state, admission
TABLE = [
    ("", "closed", 0.0),
    ("fail fail", "closed", 0.0),
    ("fail fail fail", "open", None),
    ("fail fail ok fail fail", "closed", 0.0),
    ("fail fail fail +9", "open", None),
    ("fail fail fail +10", "half-open", 0.0),
    ("fail fail fail +10 ask", "half-open", None),
    ("fail fail fail +10 ask ok", "closed", 0.0),
    ("fail fail fail +10 ask fail", "open", None),
    ("fail fail fail +10 ask fail +10", "half-open", 0.0),
    ("fail fail fail +10 ask drop", "half-open", 0.0),
    ("fail=4", "closed", 4.0),
    ("fail=4 +3", "closed", 1.0),
    ("fail=4 +5", "closed", 0.0),
    ("fail=4 fail=1", "closed", 4.0),
    ("fail fail fail=60 +30", "open", None),
    ("fail fail fail=60 +60", "half-open", 0.0),
    ("drop", "closed", 0.0),
]


@pytest.mark.parametrize(("steps", "state", "admitted"), TABLE)
def test_steps(steps: str, state: str, admitted: float | None) -> None:
    clock = Clock()
    gate = Gate(failures=3, pause=10.0, clock=clock)
    for step in steps.split():
        if step.startswith("+"):
            clock.now += float(step[1:])
        elif step == "ask":
            gate.admit()
        elif step == "ok":
            gate.succeeded()
        elif step == "drop":
            gate.abandoned()
        else:
            gate.failed(float(step.partition("=")[2] or 0))
    assert gate.state == state
    if admitted is None:
        with pytest.raises(CircuitOpenError, match="in a row"):
            gate.admit()
    else:
        assert gate.admit() == pytest.approx(admitted)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 99999999 07:28:00 GMT"}, None),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert retry_after(headers) == expected


def test_retry_after_as_a_date_to_come() -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    assert 25 < (retry_after({"retry-after": date}) or 0) <= 30
