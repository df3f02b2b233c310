"""A tiny run of the real command against a local server: structure, and sums that must hold."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reporting import main
from engine.dicom.reader import read_slices
from engine.template import ATTRIBUTES
from tests.support import llm


def test_agreement_and_calls(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "split", *ATTRIBUTES])
        for place, path in enumerate(sorted(examples.glob("*.dcm"))):
            np.save(tmp_path / f"{place}.npy", read_slices(path)[0].hu)
            table.writerow([f"{place}.npy", "test", *[place % 5] * 5])
    with llm.serve() as server:
        assert main([str(tmp_path), "--base-url", server.base_url]) == 0
        assert len(server.received) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["schema"] == "iqagpt-reporting-1"
    assert result["model"]["id"] == "model-2026"
    assert (result["cold"]["calls"], result["warm"]["calls"]) == (1, 0)
    assert result["warm"]["hit_rate"] == 1
    assert result["would_be_refused"] == 0
    assert result["agreement"]["model - template"]["noise"]["plcc"] > 0.9
    assert result["agreement"]["template - readers"]["noise"]["n"] == 5


def test_a_model_that_never_answers_is_no_result(
    examples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "manifest.csv").write_text("file,split,noise\n0.npy,test,1\n")
    np.save(tmp_path / "0.npy", read_slices(examples / "chest-original.dcm")[0].hu)
    with llm.serve(llm.answers("prose")) as server:
        assert main([str(tmp_path), "--base-url", server.base_url]) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["agreement"] == {}
    assert "ReplyError" in result["cold"]["fallback_reasons"][0]
