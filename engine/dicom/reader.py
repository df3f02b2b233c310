"""One DICOM file -> slices in Hounsfield units, or the error that says why not.

Standard: DICOM PS3.3 C.7.6.3 (image pixel), C.8.2.1 (CT image), C.7.6.16 (multi-frame).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from ..errors import NoPixelsError, NotCtError, UnreadableFileError, UnsupportedEncodingError

AIR_HU = -1024.0
MAX_PIXELS = 512 * 1024 * 1024
MAX_DEFLATED_BYTES = 64 * 1024 * 1024

_LOSSY_JPEG = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.51": "JPEG Extended",
    "1.2.840.10008.1.2.4.53": "JPEG Spectral Selection",
    "1.2.840.10008.1.2.4.55": "JPEG Full Progression",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CtSlice:
    """One slice.

    Attributes:
        hu: (H, W) float32 Hounsfield units; padding and everything below is -1024.
        spacing: row and column spacing in mm, if the file says it.
        position: mm along the normal of the slice, if the file says it.
        name: file name, "#n" appended for frame n of several; never taken from the header.
        source: the file, so that results can refer to it; None for what is not DICOM.
        frame: number of the frame in that file, from 1; None for a file of one slice.
    """

    hu: NDArray[np.float32]
    spacing: tuple[float, float] | None
    position: float | None
    name: str
    source: Path | None = None
    frame: int | None = None


def read_slices(path: str | Path) -> list[CtSlice]:
    """All slices of one file: one, or every frame of an enhanced CT.

    Raises:
        UnreadableFileError: missing, truncated, or not DICOM.
        NotCtError: another modality, a localizer, a dose page, a derived map.
        NoPixelsError: no pixel data, or less than the header promises.
        UnsupportedEncodingError: an encoding whose values are not HU, or no decoder for it.
    """
    path = Path(path)
    dataset = read_header(path, pixels=True)
    check_is_ct(dataset, path.name)
    stored = _stored_values(dataset, path.name)
    slices = (_slice(dataset, stored, frame, path.name) for frame in range(len(stored)))
    return [
        replace(found, source=path, frame=number if len(stored) > 1 else None)
        for number, found in enumerate(slices, start=1)
    ]


def read_header(path: Path, *, pixels: bool = False) -> Dataset:
    """The data set of a file, without its pixels unless asked for.

    Raises:
        UnreadableFileError: missing, truncated, or not DICOM.
    """
    try:
        _refuse_bomb(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values are judged below, one by one
            return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except FileNotFoundError:
        raise UnreadableFileError(f"{path.name}: no such file") from None
    except InvalidDicomError:
        raise UnreadableFileError(f"{path.name}: not a DICOM file") from None
    except UnreadableFileError:
        raise
    except Exception as error:  # pydicom raises whatever a broken file provokes
        raise UnreadableFileError(
            f"{path.name}: broken or truncated DICOM ({type(error).__name__}); copy it again"
        ) from error


def _refuse_bomb(path: Path) -> None:
    """pydicom inflates the deflated syntax without a bound, so bound the file itself."""
    meta = pydicom.filereader.read_file_meta_info(path)
    deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    if deflated and path.stat().st_size > MAX_DEFLATED_BYTES:
        raise UnreadableFileError(f"{path.name}: deflated file of over 64 MiB; inflate it first")


def check_is_ct(dataset: Dataset, name: str) -> None:
    """Refuse what is DICOM but no axial CT slice with HU values.

    Raises:
        NotCtError, NoPixelsError, UnsupportedEncodingError.
    """
    modality = str(dataset.get("Modality", "missing"))
    kind = [str(part).upper() for part in dataset.get("ImageType", None) or []]
    if modality != "CT":
        raise NotCtError(f"{name}: modality is {modality}, not CT")
    if "LOCALIZER" in kind:
        raise NotCtError(f"{name}: a localizer (scout view), not an axial slice")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise NoPixelsError(f"{name}: no image in this file")
    if int(dataset.get("SamplesPerPixel", 1)) != 1:
        raise NotCtError(f"{name}: a colour picture (dose page or screen capture), not CT values")
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax in _LOSSY_JPEG:
        raise UnsupportedEncodingError(
            f"{name}: {_LOSSY_JPEG[syntax]} is lossy with 8 or 12 bits, so its values are not HU; "
            "send the original"
        )
    pixels = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("NumberOfFrames", 1) or 1)
    if pixels > MAX_PIXELS:
        raise UnsupportedEncodingError(f"{name}: {pixels} pixels are more than this reads at once")
    _check_rescale(dataset, name)


def _check_rescale(dataset: Dataset, name: str) -> None:
    """Values are HU only by a rescale that does not say otherwise."""
    transform = _transform(dataset, 0)
    if "RescaleSlope" not in transform or "RescaleIntercept" not in transform:
        raise NotCtError(f"{name}: no rescale slope and intercept, so the values are not HU")
    unit = str(transform.get("RescaleType", "HU") or "HU")
    if unit not in ("HU", "US"):
        raise NotCtError(f"{name}: values are {unit}, not HU (a derived map)")
    derived = str(dataset.get("SOPClassUID", "")) == "1.2.840.10008.5.1.4.1.1.2.1"
    kinds = [str(part).upper() for part in dataset.get("ImageType", [])]
    if derived and any(
        "PERFUSION" in part or part in ("CBF", "CBV", "MTT", "TTP") for part in kinds
    ):
        raise NotCtError(f"{name}: a perfusion map, not CT values")


def _stored_values(dataset: Dataset, name: str) -> NDArray[Any]:
    """(frames, H, W) values as stored."""
    if "PixelData" not in dataset:
        raise NoPixelsError(f"{name}: no pixel data")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stored = pixel_array(dataset)
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedEncodingError(
            f"{name}: transfer syntax {dataset.file_meta.TransferSyntaxUID.name} cannot be decoded "
            f"here ({str(error).splitlines()[0]})"
        ) from error
    except Exception as error:  # decoders raise whatever broken pixel data provokes
        raise NoPixelsError(
            f"{name}: the pixel data is broken or ends early ({type(error).__name__})"
        ) from error
    return stored if stored.ndim == 3 else stored[None]


def _group(dataset: Dataset, frame: int, sequence: str) -> Dataset:
    """A functional group of a frame: its own, else the shared one, else the data set itself."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[frame : frame + 1], shared[:1]):
        for group in groups:
            if group.get(sequence):
                item: Dataset = group[sequence].value[0]
                return item
    return dataset


def _transform(dataset: Dataset, frame: int) -> Dataset:
    return _group(dataset, frame, "PixelValueTransformationSequence")


def _slice(dataset: Dataset, stored: NDArray[Any], frame: int, name: str) -> CtSlice:
    """One frame: padding to air, rescale, polarity."""
    transform = _transform(dataset, frame)
    slope, intercept = float(transform.RescaleSlope), float(transform.RescaleIntercept)
    if not (np.isfinite(slope) and np.isfinite(intercept)) or slope == 0.0:
        raise NotCtError(f"{name}: rescale slope {slope:g} gives no HU")
    hu = stored[frame].astype(np.float32) * slope + intercept
    hu[_padding(dataset, stored[frame])] = AIR_HU
    spacing = _group(dataset, frame, "PixelMeasuresSequence").get("PixelSpacing")
    return CtSlice(
        hu=np.maximum(hu, AIR_HU).astype(np.float32),
        spacing=(float(spacing[0]), float(spacing[1])) if spacing else None,
        position=position(dataset, frame),
        name=name if len(stored) == 1 else f"{name}#{frame + 1}",
    )


def _padding(dataset: Dataset, stored: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels outside the reconstructed field (PS3.3 C.7.5.1.1.2)."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return np.zeros(stored.shape, np.bool_)
    last = dataset.get("PixelPaddingRangeLimit", first)
    low, high = min(first, last), max(first, last)
    return np.asarray((stored >= low) & (stored <= high))


def position(dataset: Dataset, frame: int = 0) -> float | None:
    """Where a slice lies along its normal, mm; None if the file does not say."""
    where = _group(dataset, frame, "PlanePositionSequence").get("ImagePositionPatient")
    facing = _group(dataset, frame, "PlaneOrientationSequence").get("ImageOrientationPatient")
    if not where or not facing or len(where) != 3 or len(facing) != 6:
        return None
    axes = np.array([float(v) for v in facing])
    return float(np.cross(axes[:3], axes[3:]) @ np.array([float(v) for v in where]))
