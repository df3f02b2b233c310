"""Degradations do what physics says; readers see it; the data set is the same every time."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from engine.template import ATTRIBUTES
from training.data.degrade import Degradation, Degrader, Own
from training.data.formats import read_slice, read_table
from training.data.geometry import VIEWS
from training.data.measure import Measurements, measure
from training.data.readers import READERS, perceived
from training.data.scans import Original, derived, read_originals, split_patients
from training.dataset import main


@pytest.fixture(scope="module")
def degrader(chest: NDArray[np.float32]) -> Degrader:
    return Degrader(chest, 0.7)


def measured(degrader: Degrader, degradation: Degradation) -> Measurements:
    layers = degrader.apply(degradation, np.random.default_rng(3))
    return measure(layers)


def test_less_dose_is_more_noise_and_less_detectability(degrader: Degrader) -> None:
    runs = [measured(degrader, Degradation(dose=d)) for d in (1.0, 0.2, 0.04)]
    assert runs[0].noise_hu < runs[1].noise_hu < runs[2].noise_hu
    assert runs[0].detectability > runs[1].detectability > runs[2].detectability
    noise = [perceived(m)["noise"] for m in runs]
    assert noise == sorted(noise, reverse=True)


def test_blur_lowers_mtf_and_noise(degrader: Degrader) -> None:
    sharp, blurred = (measured(degrader, Degradation(blur_px=s)) for s in (0.0, 1.5))
    assert blurred.mtf50 < 0.7 * sharp.mtf50
    assert blurred.noise_hu < sharp.noise_hu


@pytest.mark.parametrize(
    "degradation",
    [
        Degradation(views=60),
        Degradation(missing_deg=20.0),
        Degradation(motion_px=4.0),
        Degradation(ring=0.02),
        Degradation(metal_px=5.0, hardening=0.02),
    ],
)
def test_artifacts_have_energy_and_leave_noise_and_mtf_alone(
    degrader: Degrader, degradation: Degradation
) -> None:
    clean, bad = measured(degrader, Degradation()), measured(degrader, degradation)
    assert clean.streak_hu == 0.0
    assert bad.streak_hu > 1.0
    assert bad.noise_hu == clean.noise_hu
    assert bad.mtf50 == pytest.approx(clean.mtf50, rel=0.01)  # an implant has edges, too
    assert perceived(bad)["artifacts"] < perceived(clean)["artifacts"]


def test_an_original_is_not_perfect_because_nothing_was_added(degrader: Degrader) -> None:
    own = measured(degrader, Degradation())
    assert own.noise_hu > 5.0
    assert perceived(own)["noise"] < 4.0


def test_patients_never_cross_the_split() -> None:
    blank = np.zeros((1, 1), np.float32)
    originals = [
        Original(scan="s", patient=f"p{i}", body_part=part, index=0, spacing=1.0, hu=blank)
        for part in ("chest", "head")
        for i in range(8)
    ]
    split = split_patients(originals, seed=7)
    assert set(split.values()) == {"train", "validation", "test"}
    assert split == split_patients(reversed(originals), seed=7)


def test_phantoms_only_train() -> None:
    blank = np.zeros((1, 1), np.float32)
    phantoms = [
        Original(scan="s", patient=f"p{i}", body_part="phantom", index=0, spacing=1.0, hu=blank)
        for i in range(8)
    ]
    assert set(split_patients(phantoms, seed=7).values()) == {"train"}


def test_an_implant_is_anatomy_and_what_it_casts_an_artifact(degrader: Degrader) -> None:
    faint, strong = (
        measured(degrader, Degradation(metal_px=6.0, hardening=h)) for h in (1e-6, 0.2)
    )
    assert faint.streak_hu < 0.5
    assert strong.streak_hu > 10.0 * faint.streak_hu
    assert perceived(strong)["artifacts"] < perceived(faint)["artifacts"]


def test_noise_hides_artifacts_from_the_readers(degrader: Degrader) -> None:
    streaked = measured(degrader, Degradation(ring=0.01))
    seen = [perceived(replace(streaked, noise_hu=hu))["artifacts"] for hu in (5.0, 20.0, 80.0)]
    assert seen[0] < seen[1] < seen[2] < 4.2


def test_other_originals_are_derived_from_a_patients_own(chest: NDArray[np.float32]) -> None:
    own = Original(scan="s", patient="p", body_part="chest", index=0, spacing=0.7, hu=chest)
    others = [derived(own, number, seed=7) for number in range(3)]
    for number, other in enumerate(others):
        np.testing.assert_array_equal(other.hu, derived(own, number, seed=7).hu)
        assert other.hu.shape == chest.shape
        assert 0.7 / 1.6 <= other.spacing <= 0.7 / 0.7
        inside = [float(np.mean(hu > -300.0)) for hu in (other.hu, chest)]
        zoomed_in = other.spacing < own.spacing
        assert (inside[0] > inside[1]) == zoomed_in
    assert len({other.spacing for other in others}) == 3


def test_nobody_counts_the_beam_hardening_of_an_original(chest: NDArray[np.float32]) -> None:
    plain, hardened = Degrader(chest, 0.7), Degrader(chest, 0.7, Own(hardening=0.04))
    assert np.abs(hardened.hu - plain.hu)[plain.body].mean() > 1.0
    assert measured(hardened, Degradation()).streak_hu == 0.0


@pytest.fixture(scope="module")
def water() -> NDArray[np.float32]:
    """A disc of water with a rod of bone in it."""
    y, x = np.mgrid[:512, :512] - 255.5
    hu = np.where(np.hypot(y, x) < 180.0, 0.0, -1000.0)
    return np.where(np.hypot(y, x) < 25.0, 1000.0, hu).astype(np.float32)


def test_displaced_bone_is_no_streak_in_the_tissue_beside_it(water: NDArray[np.float32]) -> None:
    degrader = Degrader(water, 0.7)
    layers = degrader.apply(Degradation(), np.random.default_rng(3))
    moved = np.where(degrader.regions.inner, water, np.roll(water, 6, 1))
    assert measure(replace(layers, image=moved)).streak_hu < 0.1


def test_an_even_offset_hides_no_lesion(water: NDArray[np.float32]) -> None:
    layers = Degrader(water, 0.7).apply(Degradation(dose=0.3), np.random.default_rng(3))
    darker = measure(replace(layers, image=layers.image - 150.0))
    assert darker.detectability == pytest.approx(measure(layers).detectability, rel=0.02)


def test_coarse_mottle_hides_more_than_fine_grain(water: NDArray[np.float32]) -> None:
    fine, coarse = (
        measured(Degrader(water, 0.7, Own(dose=0.2, grain=grain)), Degradation())
        for grain in (0.8, 1.6)
    )
    assert coarse.coarse_noise_hu > 1.2 * fine.coarse_noise_hu
    assert coarse.detectability < 0.7 * fine.detectability


def test_a_linear_blur_hides_a_lesion_no_more_than_the_noise(water: NDArray[np.float32]) -> None:
    degrader = Degrader(water, 0.7, Own(dose=0.2))
    sharp, blurred = (measured(degrader, Degradation(blur_px=s)) for s in (0.0, 2.0))
    assert blurred.detectability == pytest.approx(sharp.detectability, rel=0.25)


def test_a_slice_without_even_tissue_is_no_original(
    tmp_path: Path, chest: NDArray[np.float32]
) -> None:
    air = np.full_like(chest, -1000.0)
    slices = np.stack([air, chest, air]).astype(np.int16)
    np.savez(tmp_path / "s.npz", hu=slices, spacing=np.array([0.7, 0.7]))
    (tmp_path / "s.json").write_text("{}")
    assert [original.index for original in read_originals(tmp_path, None, 9)] == [1]


def test_the_command_builds_the_same_data_twice(tmp_path: Path, chest: NDArray[np.float32]) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    for i in range(2):
        np.savez(scans / f"s{i}.npz", hu=chest[None].astype(np.int16), spacing=np.array([0.7, 0.7]))
        (scans / f"s{i}.json").write_text(json.dumps({"patient": f"p{i}", "body_part": "chest"}))
    tables = []
    for out in (tmp_path / "a", tmp_path / "b"):
        sizes = ["--train", "6", "--test", "2", "--workers", "1"]
        assert main([str(scans), "--out", str(out), *sizes]) == 0
        tables.append(pd.read_csv(out / "manifest.csv"))
        assert (out / "contact-sheet.png").is_file()
        assert (out / "histograms.png").is_file()
    pd.testing.assert_frame_equal(*tables)
    table = read_table(tmp_path / "a")
    assert table[list(ATTRIBUTES)].to_numpy().min() >= 0
    assert f"reader{len(READERS)}_overall" in table
    assert table["split"].value_counts().to_dict() == {"train": 6, "test": 2}
    derived_too = table.groupby("split")["spacing_mm"].nunique()
    assert derived_too.to_dict() == {"train": 2, "test": 1}
    undamaged = (table["dose"] == 1.0) & (table["views"] == VIEWS) & (table["blur_px"] == 0.0)
    assert undamaged[table["split"] == "test"].iloc[0]
    first = read_slice(tmp_path / "a" / table["file"][1])
    np.testing.assert_array_equal(first, read_slice(tmp_path / "b" / table["file"][1]))


def test_a_missing_scan_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ids").write_text("lost-scan")
    arguments = [str(tmp_path), "--out", str(tmp_path / "out"), "--ids", str(tmp_path / "ids")]
    assert main(arguments) == 2
    assert "lost-scan" in capsys.readouterr().err


def test_ldctiqac_layout(tmp_path: Path) -> None:
    (tmp_path / "image").mkdir()
    for i in range(3):
        Image.fromarray(np.full((64, 64), 0.5, np.float32)).save(tmp_path / f"image/{i:04d}.tif")
    scores = {f"{i:04d}.tif": i * 1.2 for i in range(3)}
    (tmp_path / "train.json").write_text(json.dumps(scores))
    table = read_table(tmp_path)
    assert table["overall"].tolist() == [0.0, 1.2, 2.4]
    assert (table["origin"] == "human readers").all()
    assert read_slice(tmp_path / table["file"][0])[0, 0] == pytest.approx(40.0)


def test_csv_of_human_scores(tmp_path: Path, examples: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"path,overall,noise\n{examples / 'chest-original.dcm'},3.2,2.8\n")
    table = read_table(path)
    assert table["noise"][0] == 2.8
    assert table["sharpness"][0] == 3.2
    assert read_slice(tmp_path / table["file"][0]).shape == (512, 512)
    path.write_text("path,overall\nx.dcm,7\n")
    with pytest.raises(ValueError, match="outside 0…4"):
        read_table(path)
