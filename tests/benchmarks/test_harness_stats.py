"""What the statistics promise: no percentile without support, intervals that hold their level."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.harness import stats

TIMES = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=400)


@pytest.mark.parametrize(("percent", "least"), [(50, 6), (90, 29), (95, 59), (99, 299)])
def test_a_percentile_needs_its_n(percent: int, least: int) -> None:
    assert stats.interval_ranks(least - 1, percent) is None
    assert stats.interval_ranks(least, percent) is not None


@given(TIMES)
def test_percentiles_lie_in_their_interval_within_the_sample(values: list[float]) -> None:
    for value, low, high in stats.percentiles(values).values():
        assert min(values) <= low <= high <= max(values)
        assert low <= value * (1 + 1e-12)
        assert value <= high * (1 + 1e-12)


@pytest.mark.parametrize("percent", [50, 90, 99])
def test_percentile_intervals_cover_the_truth(percent: int) -> None:
    """A thousand samples of known distribution: 95 % of the intervals hold the true value."""
    random = np.random.default_rng(7)
    truth = -np.log(1 - percent / 100)
    found = (stats.percentiles(random.exponential(size=320)) for _ in range(1000))
    covered = sum(
        low <= truth <= high for _, low, high in (sample[f"p{percent}"] for sample in found)
    )
    assert 920 <= covered <= 985


def test_summary_is_in_milliseconds_and_keeps_zeros() -> None:
    assert stats.summarise([0.001] * 4) == {"n": 4, "mean_ms": pytest.approx(1), "stdev_ms": 0}
    assert stats.summarise([0.0])["mean_ms"] == 0
    assert stats.summarise([0.001 * i for i in range(1, 302)])["p99_ms"] == pytest.approx(298)


@given(TIMES, st.floats(0.01, 100))
def test_ratio_of_a_sample_to_its_multiple(values: list[float], factor: float) -> None:
    value, low, high = stats.ratio([v * factor for v in values], values, paired=True)
    for found in (value, low, high):
        assert found == pytest.approx(factor)


def test_paired_ratio_ignores_what_both_suffered() -> None:
    """A machine that gets slower and slower: pairs see the ratio, single runs only the drift."""
    drift = np.linspace(1, 5, 100)
    noise = 1 + 0.01 * np.random.default_rng(1).standard_normal((2, 100))
    _, low, high = stats.ratio(2 * drift * noise[0], drift * noise[1], paired=True)
    assert 1.9 < low <= 2.0 <= high < 2.1
    _, low, high = stats.ratio(2 * drift * noise[0], drift * noise[1])
    assert high - low > 0.3


def test_ratio_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="empty"):
        stats.ratio([], [1.0])
    with pytest.raises(ValueError, match="one length"):
        stats.ratio([1.0, 2.0], [1.0], paired=True)
