"""Classic measures move the way their definitions say."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from training.rivals.__main__ import main
from training.rivals.base import Case
from training.rivals.classics import Brisque, Classic, blur, global_noise, psnr, ssim

Image = NDArray[np.float32]


def noisy(hu: Image, deviation: float) -> Image:
    noise = np.random.default_rng(1).standard_normal(hu.shape) * deviation
    return np.asarray(hu + noise, np.float32)


def blurred(hu: Image, width: float) -> Image:
    return np.asarray(ndimage.gaussian_filter(hu, width), np.float32)


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_full_reference_falls_with_noise_and_blur(chest: Image, measure) -> None:
    for worse in (noisy, blurred):
        found = [
            measure(Case(name="x", hu=image, clean=chest))
            for image in (chest, worse(chest, 1.0), worse(chest, 3.0))
        ]
        assert found[0] > found[1] > found[2]
    assert np.isnan(measure(Case(name="x", hu=chest)))


def test_psnr_is_its_definition(chest: Image) -> None:
    """20 HU off everywhere within a window of 400 HU: 20 log10(400 / 20) = 26 dB."""
    flat = np.full((64, 64), 40.0, np.float32)
    assert psnr(Case(name="x", hu=flat + 20, clean=flat)) == pytest.approx(26.02, abs=0.01)


@pytest.mark.parametrize("deviation", [10.0, 20.0, 40.0])
def test_global_noise_finds_the_noise_put_in(deviation: float) -> None:
    water = np.full((256, 256), 50.0, np.float32)
    water[:, :40] = -1000.0  # an edge, which a mean would count and a mode does not
    found = global_noise(Case(name="x", hu=noisy(water, deviation)))
    assert found == pytest.approx(deviation, rel=0.1)


def test_no_soft_tissue_is_no_noise_level() -> None:
    assert np.isnan(global_noise(Case(name="x", hu=np.full((128, 128), -900.0, np.float32))))


def test_blur_effect_rises_with_blur(chest: Image) -> None:
    found = [blur(Case(name="x", hu=image)) for image in (chest, blurred(chest, 2.0))]
    assert found[0] < found[1]


@pytest.mark.skipif(
    importlib.util.find_spec("brisque") is None, reason="the extra `brisque` is not installed"
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_brisque_rises_with_noise_and_blur(chest: Image) -> None:
    measure = Brisque()
    clean, noise, soft = (
        measure(Case(name="x", hu=image))
        for image in (chest, noisy(chest, 60.0), blurred(chest, 2.5))
    )
    assert clean < noise
    assert clean < soft


def test_a_classic_is_calibrated_on_validation_patients(data: Path, tmp_path: Path) -> None:
    assert main(["psnr", str(data), "--out", str(tmp_path)]) == 0
    said = pd.read_csv(tmp_path / "scores.csv")
    assert said["overall"].between(0, 4).all()
    truth = pd.read_csv(data / "manifest.csv").set_index("file").loc[said["file"]]
    assert np.corrcoef(said["overall"], truth["overall"])[0, 1] > 0.5
    assert Classic("psnr").scores([Case(name="x", hu=np.zeros((64, 64), np.float32))]).shape == (
        1,
        5,
    )
