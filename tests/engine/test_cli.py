"""`iqagpt` as a user runs it."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from engine.cli import main
from tests.support import llm


def test_examples_in_every_output(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {kind: tmp_path / f"out.{kind}" for kind in ("json", "csv", "html")}
    arguments = [part for kind, path in outputs.items() for part in (f"--{kind}", str(path))]
    assert main(["assess", str(examples), *arguments]) == 0
    assert "chest-low-dose" in capsys.readouterr().out
    lines = [json.loads(line) for line in outputs["json"].read_text().splitlines()]
    assert len(lines) == 5
    assert all(0 <= line["scores"]["overall"]["value"] <= 4 for line in lines)
    with outputs["csv"].open() as file:
        assert {row["name"] for row in csv.DictReader(file)} == {line["name"] for line in lines}
    page = outputs["html"].read_text()
    assert page.count("<article>") == 5
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page
    assert not list(tmp_path.glob("*.part"))


def test_some_failures_are_reported_and_give_exit_code_1(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(examples / "chest-original.dcm", tmp_path)
    (tmp_path / "<b>bad.dcm").write_bytes(b"nonsense")
    assert main(["assess", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 1
    assert "not a DICOM file" in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;bad.dcm" in page
    assert "<b>bad" not in page


def test_json_on_stdout_is_only_json(examples: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["assess", str(examples / "chest-original.dcm"), "--json", "-"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["name"] == "chest-original.dcm"


@pytest.mark.parametrize("path", ["absent.dcm", "empty"])
def test_nothing_assessed_is_exit_code_2(
    path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["assess", str(tmp_path / path)]) == 2
    assert path in "".join(capsys.readouterr())


def test_bundle_show_and_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["score_origin"] == "simulated readers"
    assert main(["bundle", "show"]) == 0
    assert main(["bundle", "verify"]) == 0
    assert "as exported" in capsys.readouterr().out


def test_a_bad_bundle_is_one_line_of_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", "verify", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_pdf_and_series_summary(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.dcm").write_bytes(b"nonsense")
    pdf = tmp_path / "page.pdf"
    paths = [str(examples), str(tmp_path / "bad.dcm")]
    assert main(["assess", *paths, "--pdf", str(pdf), "--summary"]) == 1
    assert pdf.read_bytes().startswith(b"%PDF-")
    assert pdf.read_bytes().count(b"/Subtype /Image") == 5
    shown = " ".join(capsys.readouterr().out.split())
    assert "5 of 6 slices assessed" in shown
    assert "chest-sparse-view.dcm" in shown


def test_a_models_report_is_in_every_output(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chest = str(examples / "chest-original.dcm")
    outputs = [part for kind in ("json", "csv", "html") for part in (f"--{kind}", f"{kind}.out")]
    files = [str(tmp_path / part) if part.endswith(".out") else part for part in outputs]
    with llm.serve() as server:
        reporter = ["--reporter", "chatgpt", "--no-cache", "--prices", "1", "2"]
        assert main(["assess", chest, *files, *reporter, "--base-url", server.base_url]) == 0
    assert "1 by the model" in " ".join(capsys.readouterr().err.split())
    found = json.loads((tmp_path / "json.out").read_text())
    assert found["report"]["provenance"]["model"] == "model-2026"
    assert found["report"]["provenance"]["cost"] > 0
    assert "compatible" in (tmp_path / "csv.out").read_text()
    assert "Rated by model-2026" in (tmp_path / "html.out").read_text()


def test_a_required_model_that_fails_is_exit_code_2(
    examples: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--reporter", "required", "--no-cache", "--base-url"]
    with llm.serve(llm.answers("prose")) as server:
        assert main(["assess", str(examples), *arguments, server.base_url]) == 2
    assert "schema" in capsys.readouterr().err
