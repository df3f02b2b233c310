"""DICOM SR: complete, in the same study as its images, valid by dciodvfy."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from highdicom.sr import srread
from pydicom.uid import EnhancedCTImageStorage

from engine import Assessment, Engine
from engine.cli import main
from engine.dicom.reader import read_slices
from engine.dicom.sr import read_finding, structured_report
from engine.template import ATTRIBUTES


@pytest.fixture(scope="module")
def assessed(engine: Engine, examples: Path) -> Assessment:
    found = engine.assess(read_slices(examples / "chest-original.dcm")[0].hu)
    assert isinstance(found, Assessment)
    return found


def _errors(path: Path) -> list[str]:
    """What dciodvfy (Debian's dicom3tools) finds wrong."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    run = subprocess.run([tool, str(path)], capture_output=True, text=True)
    assert "ComprehensiveSR" in run.stdout + run.stderr
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Error")]


def test_a_document_a_series_that_the_validator_accepts(examples: Path, tmp_path: Path) -> None:
    assert main(["assess", str(examples), "--sr", str(tmp_path / "sr")]) == 0
    files = sorted((tmp_path / "sr").iterdir())
    studies = {pydicom.dcmread(p).StudyInstanceUID for p in examples.glob("*.dcm")}
    assert {pydicom.dcmread(path).StudyInstanceUID for path in files} == studies
    for path in files:
        assert _errors(path) == []
        assert path.stem == pydicom.dcmread(path).SOPInstanceUID


def test_scores_caption_algorithm_and_image_are_in_it(
    examples: Path, tmp_path: Path, assessed: Assessment
) -> None:
    source = examples / "chest-original.dcm"
    path = tmp_path / "sr.dcm"
    structured_report([read_finding(source, None, assessed)]).save_as(path)
    document = srread(path)
    image = pydicom.dcmread(source)
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName"):
        assert document[keyword].value == image[keyword].value
    assert document.SeriesInstanceUID != image.SeriesInstanceUID
    assert document.VerificationFlag == "UNVERIFIED"
    (group,) = document.content.get_image_measurement_groups()
    values = [m.value for m in group.get_measurements()]
    assert values == [pytest.approx(assessed.scores[n].value, abs=1e-3) for n in ATTRIBUTES]
    levels = [e.value.meaning for e in group.get_qualitative_evaluations()]
    assert levels[-len(ATTRIBUTES) :] == [assessed.scores[n].level for n in ATTRIBUTES]
    text = document.to_json()
    assert image.SOPInstanceUID in text
    assert assessed.caption[:40] in text
    assert assessed.report.recommendation[:30] in text
    assert "Algorithm Name" in text
    assert "simulated readers" in text


def test_frames_and_letters_of_any_language(
    examples: Path, tmp_path: Path, assessed: Assessment
) -> None:
    report = replace(assessed.report, impression="Qualité moyenne – 画質")
    finding = read_finding(examples / "chest-original.dcm", 3, replace(assessed, report=report))
    finding.header.SOPClassUID = EnhancedCTImageStorage
    for keyword in ("PatientBirthDate", "StudyID", "PatientName"):
        if keyword in finding.header:
            del finding.header[keyword]
    path = tmp_path / "sr.dcm"
    structured_report([finding]).save_as(path)
    text = pydicom.dcmread(path).to_json()
    assert json.dumps("Qualité moyenne – 画質") in text
    assert '"00081160": {"Value": [3], "vr": "IS"}' in text
    assert _errors(path) == []
