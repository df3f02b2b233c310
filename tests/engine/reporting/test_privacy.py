"""Nothing but text made from captions leaves the machine: every byte sent is looked at."""

import base64
import json
import logging
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw

from engine import Assessment, Engine, OfflineError, ReporterOptions, forbid_network
from engine.cli import main
from engine.dicom.series import SliceSource
from engine.template import LEVELS, SUBJECTS
from tests.support import llm

SECRETS = {
    "PatientName": "Okonkwo^Zephyrine",
    "PatientID": "MRN-7734-ZX",
    "PatientBirthDate": "19610203",
    "PatientAddress": "17 Quillfeather Lane",
    "OtherPatientIDs": "ALT-9921",
    "ReferringPhysicianName": "Vandersloot^Ignatius",
    "InstitutionName": "Hospital of Saint Bartleby",
    "AccessionNumber": "ACC5550199",
    "StudyDate": "20260714",
    "StudyTime": "134522",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.111111",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.8.498.222222",
    "StudyDescription": "Metastasectomy Kvx9",
    "StationName": "CTSCANNER07",
    "DeviceSerialNumber": "SN-443322",
}
PRIVATE = "Memorandum: Zephyrine"
KEY = "sk-very-secret-key-0123456789"


@pytest.fixture
def identified(examples: Path, tmp_path: Path) -> Path:
    """A series full of identity: tags, private tags, file names, text burned into the pixels."""
    folder = tmp_path / "Okonkwo_Zephyrine"
    folder.mkdir()
    for number, source in enumerate(sorted(examples.glob("*.dcm"))):
        dataset = pydicom.dcmread(source)
        dataset.decompress()
        for name, value in SECRETS.items():
            setattr(dataset, name, value)
        block = dataset.private_block(0x0099, "ACME", create=True)
        block.add_new(1, "LO", PRIVATE)
        pixels = dataset.pixel_array.astype(np.int16)
        text = Image.new("L", (pixels.shape[1], 40))
        ImageDraw.Draw(text).text((5, 5), "OKONKWO ZEPHYRINE MRN-7734-ZX", fill=255)
        pixels[:40][np.asarray(text) > 128] = 2000
        dataset.set_pixel_data(pixels, "MONOCHROME2", dataset.BitsStored)
        dataset.save_as(folder / f"MRN-7734-ZX_{number}.dcm")
    return folder


def test_no_identity_and_no_pixel_leaves(
    identified: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    slices = list(SliceSource([identified]))
    pixels = [item.hu for item in slices if hasattr(item, "hu")]
    with llm.serve() as server:
        options = ReporterOptions(base_url=server.base_url, api_key=KEY, cache=None)
        with Engine.load(threads=1, reporter=options) as engine:
            found = engine.assess(pixels)
            assert all(isinstance(a, Assessment) and a.source == "compatible" for a in found)
            engine.summarise(found)
            chat = engine.chat(found)
            "".join(chat.say("Which slice is worst?"))
            "".join(chat.report())
        command = ["assess", str(identified), "--reporter", "required", "--no-cache", "--summary"]
        assert main([*command, "--base-url", server.base_url]) == 0
    assert len(server.received) == 6
    sent = b"\n".join(server.received)
    for secret in (*SECRETS.values(), PRIVATE, str(identified), identified.name):
        for part in re.split(r"[\^/ ]", secret):
            if len(part) > 3:
                assert part.lower().encode() not in sent.lower(), part
    for hu in pixels:
        row = hu[hu.shape[0] // 2, hu.shape[1] // 2 :][:6]
        for raw in (row.tobytes(), row.astype(np.int16).tobytes()):
            assert raw not in sent
            assert base64.b64encode(raw)[:12] not in sent
        assert ",".join(str(int(v)) for v in row) not in sent.decode().replace(" ", "")
    _check_that_all_text_is_ours(server)
    assert KEY not in caplog.text
    assert "Okonkwo" not in caplog.text


def _check_that_all_text_is_ours(server: llm.FakeServer) -> None:
    """Headers are a fixed few; texts in the data are captions; the rest are numbers and words."""
    allowed = {
        "host", "accept", "accept-encoding", "authorization", "connection", "content-length",
        "content-type", "user-agent",
    }  # fmt: skip
    known = {name for subject in SUBJECTS.values() for name in subject.split()}
    for raw, request in zip(server.received, server.requests, strict=True):
        lines = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        assert {line.partition(":")[0].lower() for line in lines} == allowed
        assert b"user-agent: iqagpt\r\n" in raw.lower()
        assert set(request) <= {
            "model", "messages", "max_completion_tokens", "store", "response_format", "stream",
        }  # fmt: skip
        assert request["store"] is False
        data = json.loads(request["messages"][1]["content"])
        for text in _texts(data):
            assert known & set(text.split()) or text in LEVELS or len(text) < 200, text


def _texts(node: object) -> list[str]:
    if isinstance(node, dict):
        return [text for value in node.values() for text in _texts(value)]
    if isinstance(node, list):
        return [text for value in node for text in _texts(value)]
    return [node] if isinstance(node, str) else []


def test_the_key_is_not_in_any_text() -> None:
    assert KEY not in repr(ReporterOptions(api_key=KEY))


def test_offline_refuses_a_remote_reporter_before_anything_is_sent() -> None:
    with forbid_network(), pytest.raises(OfflineError, match=r"api\.openai\.com"):
        Engine.load(reporter=ReporterOptions(api_key=KEY, cache=None))


def test_offline_makes_any_use_of_the_network_an_error() -> None:
    import socket
    import urllib.request

    with forbid_network():
        with pytest.raises(OfflineError, match="example"):
            urllib.request.urlopen("http://example.invalid/")
        with pytest.raises(OfflineError), socket.socket() as plain:
            plain.connect(("192.0.2.1", 80))
        with pytest.raises(OfflineError), socket.socket(type=socket.SOCK_DGRAM) as plain:
            plain.sendto(b"x", ("192.0.2.1", 53))


def test_offline_on_the_command_line(
    examples: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    chest = str(examples / "chest-original.dcm")
    assert main(["assess", chest, "--offline"]) == 0
    assert main(["assess", chest, "--offline", "--reporter", "chatgpt", "--no-cache"]) == 2
    assert "network is forbidden" in capsys.readouterr().err


def test_offline_still_reaches_a_model_on_this_machine(examples: Path) -> None:
    with llm.serve() as server:
        chest = str(examples / "chest-original.dcm")
        arguments = ["--offline", "--reporter", "required", "--no-cache"]
        assert main(["assess", chest, *arguments, "--base-url", server.base_url]) == 0
        assert len(server.received) == 1
