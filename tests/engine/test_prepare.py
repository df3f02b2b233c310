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
from engine.prepare import ImageSpec, Window, check_slice, prepare, resample, to_window

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
