"""Classic measures of picture quality, for scale: one number a slice, whatever the attribute.

Full reference (the clean slice is known): PSNR and SSIM in the soft-tissue window. No reference:
BRISQUE, scikit-image's blur effect, and the global noise level of CT.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import blur_effect
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from skimage.transform import rescale

from engine.errors import MissingExtraError
from engine.prepare import Window, to_window
from engine.template import ATTRIBUTES

from .base import Array, Case

_WINDOW = Window(low=-160.0, high=240.0, mean=0.0, std=1.0)
_TISSUE_HU = (0.0, 100.0)
_NOISE_PX = 9
_LEAST_TISSUE = 200
_UNTOUCHED_DB = 80.0


def psnr(case: Case) -> float:
    """Peak signal-to-noise ratio against the clean slice, dB; 80 where nothing differs."""
    if case.clean is None:
        return float("nan")
    clean, shown = _shown(case.clean), _shown(case.hu)
    if np.array_equal(clean, shown):
        return _UNTOUCHED_DB
    return float(peak_signal_noise_ratio(clean, shown, data_range=1.0))


def ssim(case: Case) -> float:
    """Structural similarity to the clean slice (Wang 2004: Gaussian weights), at most 1."""
    if case.clean is None:
        return float("nan")
    return float(
        structural_similarity(
            _shown(case.clean),
            _shown(case.hu),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


def global_noise(case: Case) -> float:
    """Global noise level, HU: the most frequent local standard deviation in soft tissue.

    After Christianson et al., AJR 2015;205:W93: threshold on soft tissue, standard deviation around
    every pixel, mode of the histogram. NaN where there is hardly any soft tissue.
    """
    mean = ndimage.uniform_filter(case.hu, _NOISE_PX)
    variance = ndimage.uniform_filter(case.hu**2, _NOISE_PX) - mean**2
    tissue = (mean > _TISSUE_HU[0]) & (mean < _TISSUE_HU[1])
    if np.count_nonzero(tissue) < _LEAST_TISSUE:
        return float("nan")
    deviation = np.sqrt(np.maximum(variance[tissue], 0.0))
    top = max(float(np.percentile(deviation, 90)), 1.0)
    counts, edges = np.histogram(deviation, bins=100, range=(0.0, top))
    smooth = ndimage.gaussian_filter1d(counts.astype(float), 2.0)
    return float(edges[int(smooth.argmax())] + edges[1] / 2.0)


def blur(case: Case) -> float:
    """Perceptual blur without reference, 0 sharp … 1 (Crete 2007), as scikit-image has it."""
    return float(blur_effect(_shown(case.hu)))


class Brisque:
    """BRISQUE (Mittal 2012) with the weights its package brings; higher is worse.

    Raises:
        MissingExtraError: the extra `brisque` is not installed.
    """

    def __init__(self) -> None:
        try:
            from brisque import BRISQUE
        except ImportError as error:
            raise MissingExtraError(
                "BRISQUE needs the extra `brisque` (and a C++ compiler for libsvm): "
                'pip install "iqagpt[brisque]"'
            ) from error
        self._model: Any = BRISQUE(url=False)

    def __call__(self, case: Case) -> float:
        """The package's score of one slice in the soft-tissue window."""
        shown = _shown(case.hu).astype(np.float64)
        # Its own `score` trips over arrays of one element in NumPy 2.4; its parts do not.
        features = [
            float(np.ravel(feature)[0])
            for image in (shown, rescale(shown, 0.5, order=3))
            for feature in self._model.calculate_brisque_features(image, 7, 7 / 6)
        ]
        return float(self._model.calculate_image_quality_score(features))


CLASSICS: Final[dict[str, Callable[[], Callable[[Case], float]]]] = {
    "psnr": lambda: psnr,
    "ssim": lambda: ssim,
    "global-noise": lambda: global_noise,
    "blur-effect": lambda: blur,
    "brisque": Brisque,
}
"""Name -> makes the measure."""


class Classic:
    """One of `CLASSICS` as a rival: the same number for every attribute."""

    on_scale = False

    def __init__(self, name: str) -> None:
        self.name = name
        self._measure = CLASSICS[name]()

    def scores(self, cases: Sequence[Case]) -> Array:
        """(N, A), every column the same; NaN where the measure does not exist."""
        values = np.array([self._measure(case) for case in cases])
        return np.repeat(values[:, None], len(ATTRIBUTES), axis=1)


def _shown(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """The soft-tissue window as 0…1."""
    return to_window(hu, _WINDOW)
