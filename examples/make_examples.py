"""Makes the example slices: `python examples/make_examples.py SCANS`.

Two real slices (The Cancer Imaging Archive, see NOTICE) as anonymous DICOM files, and degraded
versions made by the project's own projection-domain simulation.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

from training.data.degrade import Degradation, Degrader

CHEST, ABDOMEN = "lidc-0002", "pancreas-0001"
HERE = Path(__file__).parent


def main(scans: Path) -> None:
    """Write every example beside this file."""
    for part, scan, versions in (
        (
            "chest",
            CHEST,
            {
                "original": Degradation(),
                "low-dose": Degradation(dose=0.04),
                "sparse-view": Degradation(views=60),
            },
        ),
        ("abdomen", ABDOMEN, {"original": Degradation(), "blurred": Degradation(blur_px=1.8)}),
    ):
        with np.load(scans / f"{scan}.npz", allow_pickle=False) as volume:
            hu = volume["hu"][len(volume["hu"]) // 2].astype(np.float32)
            spacing = tuple(float(v) for v in volume["spacing"])
        degrader = Degrader(hu, spacing[0])
        for name, degradation in versions.items():
            image = degrader.apply(degradation, np.random.default_rng(1)).image
            write(HERE / f"{part}-{name}.dcm", image, spacing, part)


def write(path: Path, hu: NDArray[np.float32], spacing: tuple[float, ...], part: str) -> None:
    """One anonymous CT Image Storage file, JPEG-LS lossless."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[path.name])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", part])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", part])
    ds.Modality, ds.PatientName, ds.PatientID = "CT", "ANON", "ANON"
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.BodyPartExamined = part.upper()
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing = [f"{v:.6f}" for v in spacing]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
    ds.PixelData = (np.clip(np.rint(hu), -1024, 3071) + 1024).astype("<u2").tobytes()
    ds.compress(JPEGLSLossless, generate_instance_uid=False)
    ds.save_as(path, enforce_file_format=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
