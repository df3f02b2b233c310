"""The simulated scanner measures line integrals, and makes of them the slice they came from."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.geometry import VIEWS, WATER_PER_MM, Scanner

SIZE = 128
SPACING_MM = 2.0


def disc(radius_px: float, row: float = 63.5, column: float = 63.5) -> NDArray[np.float32]:
    """Water in air."""
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = np.clip(radius_px + 0.5 - np.hypot(y - row, x - column), 0.0, 1.0)
    return (1000.0 * inside - 1000.0).astype(np.float32)


@pytest.fixture(scope="module")
def scanner() -> Scanner:
    return Scanner(SIZE, SPACING_MM)


def test_every_view_of_a_disc_is_its_chord(scanner: Scanner) -> None:
    views = scanner.project(disc(30.0))
    assert views.shape == (VIEWS, scanner.detectors)
    middle = (scanner.detectors - 1) / 2.0
    offset = np.arange(scanner.detectors) - middle
    chord_mm = 2.0 * SPACING_MM * np.sqrt(np.maximum(30.0**2 - offset**2, 0.0))
    inner = np.abs(offset) < 25.0
    expected = np.broadcast_to(WATER_PER_MM * chord_mm[inner], views[:, inner].shape)
    np.testing.assert_allclose(views[:, inner], expected, rtol=0.02)


def test_a_disc_beside_the_middle_moves_over_the_detectors_as_a_sine(scanner: Scanner) -> None:
    views = scanner.project(disc(8.0, row=63.5 + 20.0, column=63.5 + 30.0))
    detectors = np.arange(scanner.detectors) - (scanner.detectors - 1) / 2.0
    seen_at = (views * detectors).sum(1) / views.sum(1)
    angles = np.arange(VIEWS) * np.pi / VIEWS
    np.testing.assert_allclose(seen_at, 30.0 * np.cos(angles) + 20.0 * np.sin(angles), atol=0.1)


def test_back_projection_is_the_way_back(scanner: Scanner) -> None:
    water = disc(40.0)
    again = scanner.reconstruct(scanner.project(water))
    inside, outside = disc(35.0) == 0.0, disc(45.0) == -1000.0
    assert np.abs(again[inside] - 1000.0).mean() < 10.0
    assert np.abs(again[outside]).mean() < 10.0


def test_nothing_measured_is_nothing_seen(scanner: Scanner) -> None:
    nothing = np.zeros((VIEWS, scanner.detectors), np.float32)
    assert not scanner.reconstruct(nothing).any()


def test_few_views_streak_where_all_do_not(scanner: Scanner) -> None:
    views = scanner.project(disc(12.0, row=40.0))
    outside = disc(30.0, row=40.0) == -1000.0
    streaks = [
        float(scanner.reconstruct(views, used)[outside].std())
        for used in (None, slice(0, None, 8), slice(0, None, 24))
    ]
    assert streaks[0] < 10.0
    assert streaks[0] < streaks[1] < streaks[2]
