"""A small data set of the real layout: true slices, noise and blur, readers who see both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from engine.template import ATTRIBUTES
from training.data.degrade import Degradation
from training.data.measure import Measurements
from training.data.readers import READERS

SPLITS = ("train", "train", "train", "validation", "validation", "test", "test", "test")
_DEGRADED = (
    Degradation(),
    Degradation(dose=0.3),
    Degradation(dose=0.05),
    Degradation(blur_px=1.5),
    Degradation(dose=0.1, blur_px=2.5),
)


def write_dozen(
    folder: Path, picture: Callable[[int], NDArray[np.floating]], score: Callable[[int], float]
) -> None:
    """Twelve slices of six patients, six of them to train on; all attributes score alike."""
    (folder / "slices").mkdir(parents=True)
    rows = []
    for i in range(12):
        np.save(folder / f"slices/{i}.npy", picture(i).astype(np.int16))
        split = ("train", "train", "validation", "test")[i // 3]
        scores = dict.fromkeys(ATTRIBUTES, score(i))
        rows.append({"file": f"slices/{i}.npy", "patient": f"p{i // 2}", "split": split, **scores})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)


def write(folder: Path, slices: list[NDArray[np.float32]]) -> pd.DataFrame:
    """Eight patients with five versions of a slice each; writes and returns `manifest.csv`."""
    (folder / "slices").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for patient, split in enumerate(SPLITS):
        clean = np.roll(slices[patient % len(slices)], 7 * patient, axis=1)
        for version, done in enumerate(_DEGRADED):
            number = patient * len(_DEGRADED) + version
            noise = 8.0 / np.sqrt(done.dose) * (done.dose < 1)
            image = clean + ndimage.gaussian_filter(rng.standard_normal(clean.shape), 0.7) * noise
            np.save(
                folder / f"slices/{number:05d}.npy",
                ndimage.gaussian_filter(image, done.blur_px).astype(np.int16),
            )
            rows.append(
                {
                    "id": number,
                    "file": f"slices/{number:05d}.npy",
                    "split": split,
                    "patient": f"p{patient}",
                    "scan": f"s{patient}",
                    "slice": 0,
                    "body_part": ("chest", "abdomen")[patient % 2],
                    "spacing_mm": 0.7,
                    **asdict(done),
                    **asdict(_measured(done)),
                    **_opinions(done, rng),
                }
            )
    manifest = pd.DataFrame(rows)
    manifest.to_csv(folder / "manifest.csv", index=False)
    return manifest


def _measured(done: Degradation) -> Measurements:
    noise = 10.0 / np.sqrt(done.dose) / (1.0 + done.blur_px)
    return Measurements(
        noise_hu=noise,
        coarse_noise_hu=noise / 3.0,
        mtf50=0.3 / (1.0 + done.blur_px),
        streak_hu=0.0,
        detectability=20.0 / noise,
    )


def _opinions(done: Degradation, rng: np.random.Generator) -> dict[str, float]:
    noise, blur = 4.0 + 0.8 * np.log2(done.dose), 4.0 - 1.2 * done.blur_px
    both = (noise + blur) / 2
    quality = {
        "noise": noise,
        "sharpness": blur,
        "artifacts": 3.6,
        "low_contrast": both,
        "overall": both,
    }
    columns: dict[str, float] = {}
    for name, value in quality.items():
        said = [float(np.clip(np.rint(value + rng.normal(0, 0.4)), 0, 4)) for _ in READERS]
        columns[name] = float(np.mean(said))
        columns |= {f"reader{r + 1}_{name}": score for r, score in enumerate(said)}
    return columns
