"""A bundle that was touched does not load."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.bundle.store import DEFAULT_BUNDLE, open_bundle
from engine.errors import (
    BundleCorruptError,
    BundleError,
    BundleNotFoundError,
    BundlePathError,
    BundleVersionError,
)
from engine.template import ATTRIBUTES, LEVELS


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the default bundle to break."""
    return Path(shutil.copytree(DEFAULT_BUNDLE, tmp_path / "bundle"))


def edit(bundle: Path, **changes: Any) -> None:
    file = bundle / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_the_default_bundle_is_whole_small_and_honest() -> None:
    manifest = open_bundle().manifest
    assert sum(part.bytes for part in manifest.files.values()) < 25e6
    assert manifest.score_origin == "simulated readers"
    assert manifest.parity["captions_identical"] == 1.0
    assert manifest.parity["probability_max"] <= 1e-4


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx", "tokenizer.json"])
def test_one_flipped_byte_is_found(bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / name).write_bytes(data)
    with pytest.raises(BundleCorruptError, match=name):
        open_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "decoder.onnx").unlink()
    with pytest.raises(BundleCorruptError, match=r"decoder\.onnx"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/hostname", "a/../../b", "..\\x"])
def test_a_path_that_leaves_the_folder_is_refused(bundle: Path, name: str) -> None:
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    edit(bundle, files={**files, name: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(BundlePathError):
        open_bundle(bundle)


def test_a_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "encoder.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "encoder.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundlePathError):
        open_bundle(bundle)


def test_an_unknown_version_is_refused_before_anything_else(bundle: Path) -> None:
    edit(bundle, format_version=99, nonsense=True)
    with pytest.raises(BundleVersionError, match="99"):
        open_bundle(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 1}', "null", "\x00"])
def test_a_broken_manifest_is_a_bundle_error(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError):
        open_bundle(bundle)


def test_a_bundle_may_bring_its_own_template(bundle: Path) -> None:
    clauses = [
        {"attribute": name, "sentences": [f"{name} {level}" for level in LEVELS]}
        for name in reversed(ATTRIBUTES)
    ]
    edit(bundle, template=clauses)
    found = open_bundle(bundle).manifest.captions
    assert found is not None
    assert found.attributes == tuple(reversed(ATTRIBUTES))
    for odd in (clauses[:4], [*clauses, clauses[0]], [{**clauses[0], "x": 1}], [], "mine", None):
        edit(bundle, template=odd)
        with pytest.raises(BundleCorruptError, match="template"):
            open_bundle(bundle)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError):
        open_bundle(tmp_path / "nowhere")
