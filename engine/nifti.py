"""NIfTI volume -> slices in Hounsfield units, shown as radiologists expect (extra `nifti`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .dicom.reader import AIR_HU, CtSlice
from .errors import MissingExtraError, NotCtError, UnreadableFileError


def read_volume(path: Path) -> Iterator[CtSlice]:
    """The axial slices of a 3-D volume from feet to head, read one by one.

    Raises:
        MissingExtraError: nibabel is not installed.
        UnreadableFileError: missing or broken.
        NotCtError: not a 3-D volume.
    """
    try:
        import nibabel
    except ImportError:
        raise MissingExtraError(
            f"{path.name}: NIfTI needs nibabel; run `pip install iqagpt[nifti]`"
        ) from None
    try:
        image = nibabel.load(path)
        axes = nibabel.orientations.axcodes2ornt(("L", "P", "S"))
        turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), axes)
        volume = image.as_reoriented(turn)
    except Exception as error:  # nibabel raises whatever a broken file provokes
        raise UnreadableFileError(f"{path.name}: no readable NIfTI volume ({error})") from error
    if len(volume.shape) != 3:
        raise NotCtError(f"{path.name}: a volume has 3 axes; this one has {len(volume.shape)}")
    column_mm, row_mm, slice_mm = (float(size) for size in volume.header.get_zooms()[:3])
    for index in range(volume.shape[2]):
        hu = np.asarray(volume.dataobj[:, :, index], np.float32).T
        yield CtSlice(
            hu=np.maximum(hu, AIR_HU),
            spacing=(row_mm, column_mm),
            position=index * slice_mm,
            name=f"{path.name}#{index + 1}",
        )
