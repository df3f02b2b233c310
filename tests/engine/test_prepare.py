"""Checks, padding, resampling and windows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import (
    InputError,
    NoAnatomyError,
    NonFiniteError,
    NotHounsfieldError,
    ShapeError,
)
from engine.prepare import (
    AIR_HU,
    MAX_SIDE,
    ImageSpec,
    Window,
    check_slice,
    prepare,
    resample,
    square_pixels,
    to_pixels,
    to_window,
)

SPEC = ImageSpec(size=128, windows=(Window(low=-160, high=240), Window(low=-1000, high=2000)))


def body(height: int = 128, width: int = 128) -> NDArray[np.float32]:
    """A disc of soft tissue in air."""
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / height) ** 2 + ((x - width / 2) / width) ** 2 < 0.1
    return np.where(inside, 40.0, -1000.0).astype(np.float32)


@pytest.mark.parametrize(
    ("array", "error", "says"),
    [
        (np.full((128, 128), np.nan), NonFiniteError, "16384 pixels"),
        (np.zeros(5), ShapeError, "H, W"),
        (np.zeros((0, 0)), ShapeError, "64 to 4096"),
        (np.zeros((1, 1)), ShapeError, "1 x 1"),
        (np.zeros((64, 5000), np.int8), ShapeError, "5000"),
        (np.full((128, 128), 7), NoAnatomyError, "every pixel is 7"),
        (np.where(np.arange(16384) % 2, -1000, -990).reshape(128, 128), NoAnatomyError, "tissue"),
        ((body() + 1024).astype(np.uint16), NotHounsfieldError, "rescale"),
        (body() * 1000, NotHounsfieldError, "far outside"),
        (np.where(body() > 0, 3000, -1000).repeat(1), ShapeError, "H, W"),
        (body() > 0, NotHounsfieldError, "dtype bool"),
        (body().astype(object), NotHounsfieldError, "dtype object"),
        (np.random.default_rng(0).integers(0, 256, (128, 128)), NotHounsfieldError, "fat or air"),
    ],
)
def test_bad_slices_get_the_error_that_names_the_cause(
    array: NDArray[np.generic], error: type[InputError], says: str
) -> None:
    with pytest.raises(error, match=says):
        check_slice(array)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_integers_and_floats_give_the_same_pixels(dtype: type[np.generic]) -> None:
    np.testing.assert_array_equal(prepare(body().astype(dtype), SPEC), prepare(body(), SPEC))


def test_a_slice_of_the_right_size_is_not_resampled() -> None:
    assert resample(body(), 128) is not None
    np.testing.assert_array_equal(resample(body(), 128), body())


@settings(max_examples=25, deadline=None)
@given(st.integers(64, 300), st.integers(64, 300))
def test_any_shape_becomes_square_pixels_within_range(height: int, width: int) -> None:
    pixels = prepare(body(height, width), SPEC)
    assert pixels.shape == (2, 128, 128)
    assert pixels.dtype == np.float32
    assert pixels.min() >= -1.0
    assert pixels.max() <= 1.0


def test_padding_is_air_and_centred() -> None:
    square = resample(np.full((128, 64), 50.0, np.float32), 128)
    assert (square[:, :32] == -1024).all()
    assert (square[:, 96:] == -1024).all()
    assert (square[:, 32:96] == 50).all()


def test_windows_are_linear_and_clipped() -> None:
    hu = body()
    hu[0, :4] = [-160, 40, 240, 3000]
    assert prepare(hu, SPEC)[0, 0, :4] == pytest.approx([-1, 0, 1, 1], abs=1e-6)


def test_a_window_is_normalised_as_the_bundle_says() -> None:
    hu = np.array([[-200.0, -100.0, 0.0, 100.0, 200.0]], np.float32)
    window = Window(low=-100, high=100, mean=0.4, std=0.2)
    expected = (np.array([[0.0, 0.0, 0.5, 1.0, 1.0]]) - 0.4) / 0.2
    assert to_window(hu, window) == pytest.approx(expected, abs=1e-5)


sides = st.integers(64, 200)


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]))
def test_the_runtime_sees_the_pixels_that_training_sees(
    height: int, width: int, resampling: str
) -> None:
    """Training prepares by `resample` and `to_pixels`, the engine by `prepare` into a buffer."""
    spec = ImageSpec(size=128, windows=SPEC.windows, resampling=resampling)  # type: ignore[arg-type]
    hu = body(height, width) + np.random.default_rng(height).normal(0, 20, (height, width))
    trained = to_pixels(resample(hu.astype(np.float32), spec.size, spec.resampling), spec)
    row = np.full((3, *trained.shape), np.nan, np.float32)[1]
    assert prepare(hu, spec, row) is row
    np.testing.assert_array_equal(row, trained)
    np.testing.assert_array_equal(prepare(hu.astype(np.float32), spec), trained)


@settings(max_examples=40, deadline=None)
@given(sides, sides)
def test_padding_only_adds_air_around_every_pixel(height: int, width: int) -> None:
    side = max(height, width)
    hu = np.random.default_rng(width).uniform(-500, 500, (height, width)).astype(np.float32)
    padded = resample(hu, side)
    top, left = (side - height) // 2, (side - width) // 2
    np.testing.assert_array_equal(padded[top : top + height, left : left + width], hu)
    assert np.count_nonzero(padded != AIR_HU) == hu.size
    assert abs(top - (side - height - top)) <= 1, "as much air on either side, up to one pixel"
    assert abs(left - (side - width - left)) <= 1


@settings(max_examples=40, deadline=None)
@given(sides, sides, st.booleans())
def test_turning_a_slice_turns_its_pixels(height: int, width: int, odd: bool) -> None:
    hu = body(height | odd, width | odd)
    np.testing.assert_allclose(
        prepare(np.ascontiguousarray(hu.T), SPEC), prepare(hu, SPEC).transpose(0, 2, 1), atol=1e-4
    )


def test_views_and_byte_orders_give_the_same_pixels() -> None:
    hu = body(150, 130)
    expected = prepare(hu, SPEC)
    twice = np.repeat(np.repeat(hu, 2, 0), 2, 1)[::2, ::2]
    for same in (np.asfortranarray(hu), twice, hu.astype(">i2"), hu[::-1][::-1]):
        np.testing.assert_array_equal(prepare(same, SPEC), expected)


def test_a_refused_slice_leaves_the_buffer_as_it_was() -> None:
    row = np.full((2, 128, 128), 5.0, np.float32)
    with pytest.raises(NonFiniteError):
        prepare(np.full((128, 128), np.inf), SPEC, row)
    assert (row == 5.0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_one_pixel_that_is_no_number_is_found_and_counted(value: float) -> None:
    hu = body().astype(np.float64)
    hu[3, 4] = value
    with pytest.raises(NonFiniteError, match=r"^1 pixels"):
        check_slice(hu)


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.floats(0.3, 2.0), st.floats(0.3, 2.0))
def test_pixels_become_as_wide_as_high(
    height: int, width: int, row_mm: float, column_mm: float
) -> None:
    hu = body(height, width)
    square = square_pixels(hu, (row_mm, column_mm))
    if square is hu:
        assert row_mm == pytest.approx(column_mm, rel=0.0101)
        return
    tall, wide = height * row_mm, width * column_mm
    fine = min(row_mm, column_mm)
    assert square.shape == (round(tall / fine), round(wide / fine))
    assert square.shape[0] / square.shape[1] == pytest.approx(tall / wide, rel=0.02)
    np.testing.assert_allclose(square_pixels(hu.T, (column_mm, row_mm)), square.T, atol=1e-3)


def test_a_disc_stretched_by_its_spacing_is_round_again() -> None:
    y, x = np.mgrid[:100, :200]
    stretched = np.where((2 * (y - 49.5)) ** 2 + (x - 99.5) ** 2 < 60**2, 40.0, -1000.0)
    round_again = square_pixels(stretched, (1.0, 0.5)) > -480
    assert round_again.shape == (200, 200)
    assert np.ptp(np.flatnonzero(round_again.any(0))) == pytest.approx(
        np.ptp(np.flatnonzero(round_again.any(1))), abs=2
    )


@pytest.mark.parametrize("spacing", [None, (0.0, 1.0), (1.0, -1.0), (np.nan, 1.0), (0.7, 0.7)])
def test_unknown_or_square_spacing_changes_nothing(spacing: tuple[float, float] | None) -> None:
    hu = body()
    assert square_pixels(hu, spacing) is hu


def test_absurd_spacing_makes_no_absurd_slice() -> None:
    assert max(square_pixels(body(64, 4096), (1000.0, 0.001)).shape) <= MAX_SIDE
