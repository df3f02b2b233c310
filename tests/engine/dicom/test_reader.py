"""Genuine DICOM in many encodings: the same HU, or a typed error that names the file."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from engine.dicom.reader import read_slices
from engine.dicom.series import SliceSource
from engine.errors import (
    ImageFileError,
    NoPixelsError,
    NotCtError,
    UnreadableFileError,
    UnsupportedEncodingError,
)

SAME_SLICE = ("deflated", "j2k-lossless", "jpegls-lossless", "jpeg-p14sv1", "jpeg-p14", "rle")


@pytest.mark.parametrize("syntax", SAME_SLICE)
def test_every_lossless_syntax_gives_the_same_hu(dicom_files: Path, syntax: str) -> None:
    (reference,) = read_slices(dicom_files / "ctimage-explicit-be.dcm")
    (found,) = read_slices(dicom_files / f"ctimage-{syntax}.dcm")
    np.testing.assert_array_equal(found.hu, reference.hu)
    assert found.spacing == pytest.approx((0.675781, 0.675781))
    assert found.hu.min() == -1024
    assert found.name == f"ctimage-{syntax}.dcm"


def test_enhanced_ct_uses_its_functional_groups(dicom_files: Path) -> None:
    (found,) = read_slices(dicom_files / "enhct-siemens-multiframe.dcm")
    assert found.hu.min() == -1024
    assert found.hu.max() == 334
    assert found.position == -460


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("ctimage-jpeg-p1.dcm", UnsupportedEncodingError, "not HU"),
        ("localizer-not-axial.dcm", NotCtError, "localizer"),
        ("enhct-perfusion-multiframe-2.dcm", NotCtError, "perfusion"),
        ("absent.dcm", UnreadableFileError, "no such file"),
    ],
)
def test_what_is_no_ct_slice_is_refused_by_name(
    dicom_files: Path, name: str, error: type[ImageFileError], says: str
) -> None:
    with pytest.raises(error, match=f"{name}.*{says}"):
        read_slices(dicom_files / name)


def _set(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda ds: setattr(ds, keyword, value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_set("Modality", "MR"), NotCtError),
        (_set("SamplesPerPixel", 3), NotCtError),
        (_set("RescaleSlope", 0), NotCtError),
        (_set("RescaleType", "MGML"), NotCtError),
        (_set("Rows", 60000), ImageFileError),
        (_set("PixelData", b"\0" * 100), NoPixelsError),
        (lambda ds: ds.__delitem__("PixelData"), NoPixelsError),
        (lambda ds: ds.__delitem__("RescaleIntercept"), NotCtError),
    ],
)
def test_edited_headers_get_typed_errors(
    dicom_files: Path,
    tmp_path: Path,
    change: Callable[[Dataset], None],
    error: type[ImageFileError],
) -> None:
    ds = pydicom.dcmread(dicom_files / "ctimage-explicit-be.dcm")
    change(ds)
    ds.save_as(tmp_path / "edited.dcm")
    with pytest.raises(error, match=r"edited\.dcm"):
        read_slices(tmp_path / "edited.dcm")


def test_padding_becomes_air(dicom_files: Path, tmp_path: Path) -> None:
    ds = pydicom.dcmread(dicom_files / "ctimage-explicit-be.dcm")
    ds.add_new(0x00280120, "SS", int(ds.pixel_array[256, 256]))
    ds.save_as(tmp_path / "padded.dcm")
    assert read_slices(tmp_path / "padded.dcm")[0].hu[256, 256] == -1024


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 168_000), st.binary(min_size=0, max_size=40))
def test_damaged_files_never_raise_anything_else(place: int, noise: bytes) -> None:
    source = Path(__file__).parents[2] / "data/dicom/ctimage-j2k-lossless.dcm"
    data = source.read_bytes()
    damaged = data[:place] + noise if len(noise) % 2 else data[:place] + noise + data[place:]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "damaged.dcm"
        target.write_bytes(damaged)
        try:
            assert all(found.hu.ndim == 2 for found in read_slices(target))
        except ImageFileError as error:
            assert target.name in str(error)


def test_a_folder_goes_on_after_a_bad_file(dicom_files: Path, tmp_path: Path) -> None:
    shutil.copy(dicom_files / "ctimage-rle.dcm", tmp_path / "b.dcm")
    (tmp_path / "a.dcm").write_bytes(b"not dicom")
    (tmp_path / "notes.txt").write_text("skipped")
    found = list(SliceSource([tmp_path]))
    assert [type(item).__name__ for item in found] == ["UnreadableFileError", "CtSlice"]


def test_slices_are_ordered_by_geometry_not_by_name(dicom_files: Path, tmp_path: Path) -> None:
    ds = pydicom.dcmread(dicom_files / "ctimage-explicit-be.dcm")
    for name, z in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        ds.ImagePositionPatient = [0, 0, z]
        ds.save_as(tmp_path / f"{name}.dcm")
    found = [item for item in SliceSource([tmp_path]) if not isinstance(item, ImageFileError)]
    assert [item.name for item in found] == ["b.dcm", "c.dcm", "a.dcm"]
