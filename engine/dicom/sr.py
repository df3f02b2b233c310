"""Assessments -> DICOM SR, TID 1500, so that results lie beside the images in the archive.

One document a series: a measurement group (TID 1501) for each slice with a reference to the image,
the algorithm, a score for each attribute, the caption, and the report. PS3.3 A.35.3 (Comprehensive
SR), PS3.16 TID 1500, 1501, 4019 (algorithm identification).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset

from ..assessment import Assessment
from ..errors import MissingExtraError
from ..template import ATTRIBUTES, LEVELS, SUBJECTS
from .reader import read_header

if TYPE_CHECKING:
    from highdicom.sr import MeasurementsAndQualitativeEvaluations

_SCHEME: Final = "99IQAGPT"
"""Private coding scheme: DICOM has no codes for subjective image quality."""
_STUDY: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
_ALGORITHM: Final = "iqagpt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A slice's assessment and where the slice is.

    Attributes:
        header: the image's data set; pixels are not needed.
        frame: number of the frame, from 1; None for an image of one frame.
        assessment: the result.
    """

    header: Dataset
    frame: int | None
    assessment: Assessment


def read_finding(source: Path, frame: int | None, assessment: Assessment) -> Finding:
    """A finding for a slice of a file.

    Raises:
        UnreadableFileError: the file is gone or broken.
    """
    return Finding(header=read_header(source), frame=frame, assessment=assessment)


def structured_report(findings: Sequence[Finding], *, number: int = 1) -> Dataset:
    """The SR of one series; patient and study are those of its images.

    Args:
        findings: one for each slice, all of one study, at least one.
        number: series number of the new series that holds the document.

    Returns:
        A Comprehensive SR with UIDs of its own, unverified: no person has looked at it.

    Raises:
        MissingExtraError: the extra `dicom-sr` is not installed.
    """
    hd, codes = _highdicom()
    evidence = {str(f.header.SOPInstanceUID): _complete(f.header) for f in findings}
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=hd.UID(),
            name=_ALGORITHM,
            manufacturer_name=_ALGORITHM,
            model_name=version(_ALGORITHM),
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=device),
        procedure_reported=codes.LN.CTUnspecifiedBodyRegion,
        imaging_measurements=[_group(hd, codes, finding) for finding in findings],
        title=codes.DCM.ImagingMeasurementReport,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names and dates are kept as the images have them
        document: Dataset = hd.sr.ComprehensiveSR(
            evidence=list(evidence.values()),
            content=content[0],
            series_instance_uid=hd.UID(),
            series_number=number,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer=_ALGORITHM,
            series_description="CT image quality",
            is_complete=True,
            is_final=False,
            is_verified=False,
        )
    document.SpecificCharacterSet = "ISO_IR 192"  # a language model writes more than ASCII
    return document


def _group(hd: Any, codes: Any, finding: Finding) -> MeasurementsAndQualitativeEvaluations:
    """Everything said about one slice (TID 1501)."""
    found, header = finding.assessment, finding.header
    written = found.report.provenance
    parameters = [f"bundle {found.bundle}", f"scores learned from {found.score_origin}"]
    parameters.append(f"report by {' '.join(filter(None, (written.source, written.model)))}")
    group: MeasurementsAndQualitativeEvaluations = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=hd.UID(), identifier=f"image {header.get('InstanceNumber', '')}"
        ),
        finding_type=_code(hd, "QUALITY", "Image quality"),
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=_ALGORITHM,
            version=version(_ALGORITHM),
            family=codes.DCM.ArtificialIntelligence,
            parameters=parameters,
            manufacturer=_ALGORITHM,
        ),
        measurements=[_measurement(hd, name, found) for name in ATTRIBUTES if name in found.scores],
        qualitative_evaluations=[
            _level(hd, name, found) for name in ATTRIBUTES if name in found.scores
        ],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(
                referenced_sop_class_uid=header.SOPClassUID,
                referenced_sop_instance_uid=header.SOPInstanceUID,
                referenced_frame_numbers=None if finding.frame is None else [finding.frame],
            )
        ],
    )
    report = found.report
    texts = {
        "Caption": ("CAPTION", found.caption),
        "Impression": ("IMPRESSION", report.impression),
        "Suitability for diagnosis": ("SUITABILITY", report.suitability),
        "Recommendation": ("RECOMMENDATION", report.recommendation),
        "Limits": ("LIMITS", report.limits),
    }
    for meaning, (value, text) in texts.items():
        item = hd.sr.TextContentItem(
            name=_code(hd, value, meaning),
            value=text or "-",
            relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
        )
        group[0].ContentSequence.append(item)
    return group


def _measurement(hd: Any, name: str, found: Assessment) -> Any:
    """A score, 0…4, without a unit (UCUM "1")."""
    return hd.sr.Measurement(
        name=_code(hd, f"SCORE_{name.upper()}", f"{SUBJECTS[name]} score, 0 bad to 4 excellent"),
        value=round(found.scores[name].value, 3),
        unit=hd.sr.CodedConcept(value="1", meaning="no units", scheme_designator="UCUM"),
    )


def _level(hd: Any, name: str, found: Assessment) -> Any:
    """The level word that the caption carries."""
    level = found.scores[name].level
    return hd.sr.QualitativeEvaluation(
        name=_code(hd, name.upper(), SUBJECTS[name]),
        value=_code(hd, f"LEVEL{LEVELS.index(level)}", level),
    )


def _complete(header: Dataset) -> Dataset:
    """The header with the empty values (type 2) that a study must have and some files lack."""
    whole = copy.copy(header)
    for keyword in _STUDY:
        if keyword not in whole:
            setattr(whole, keyword, None)
    return whole


def _code(hd: Any, value: str, meaning: str) -> Any:
    return hd.sr.CodedConcept(value=value, meaning=meaning, scheme_designator=_SCHEME)


def _highdicom() -> tuple[Any, Any]:
    try:
        import highdicom
        from pydicom.sr.codedict import codes
    except ImportError as error:
        raise MissingExtraError(
            'DICOM SR needs the extra "dicom-sr": pip install "iqagpt[dicom-sr]"'
        ) from error
    return highdicom, codes
