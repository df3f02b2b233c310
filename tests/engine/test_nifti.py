"""NIfTI volumes, oriented as radiologists look at them."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from engine.dicom.series import SliceSource
from engine.errors import ImageFileError, UnreadableFileError


def test_slices_run_from_feet_to_head_with_anterior_on_top(tmp_path: Path) -> None:
    volume = np.full((64, 80, 3), -1000, np.int16)
    volume[:32, 40:, 1] = 40  # LAS: x < 32 is the patient's right, y >= 40 anterior
    affine = np.diag([-0.8, 0.7, 2.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / "scan.nii.gz")
    found = [s for s in SliceSource([tmp_path]) if not isinstance(s, ImageFileError)]
    assert [s.name for s in found] == [f"scan.nii.gz#{n}" for n in (1, 2, 3)]
    middle = found[1]
    assert middle.hu.shape == (80, 64)
    assert middle.spacing == pytest.approx((0.7, 0.8))
    assert middle.hu[10, 10] == 40, "anterior right: top left of the picture"
    assert middle.hu[70, 10] == middle.hu[10, 50] == -1000


def test_a_broken_volume_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"nothing")
    (found,) = SliceSource([tmp_path / "scan.nii"])
    assert isinstance(found, UnreadableFileError)
