"""Find a bundle, verify it, open it: nothing of a bundle is used before its hash was checked.

A bundle is data from elsewhere. The manifest's version is looked at before its content, every file
it names must be a plain file directly in or under the folder (no links, no way out), and every
byte must hash to what the manifest says. Nothing here unpickles anything.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from pydantic import ValidationError
from tokenizers import Tokenizer

from ..errors import (
    BundleCorruptError,
    BundleNotFoundError,
    BundlePathError,
    BundleVersionError,
)
from .manifest import FORMAT_VERSION, MANIFEST_NAME, TOKENIZER, FilePart, Manifest

DEFAULT_BUNDLE = Path(__file__).with_name("default")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: where its files lie.
        manifest: what it says about itself.
        tokenizer: the tokenizer of its captions.
    """

    folder: Path
    manifest: Manifest
    tokenizer: Tokenizer


def open_bundle(path: str | Path | None = None) -> Bundle:
    """Verify and open a bundle folder.

    Args:
        path: the folder; None is the default bundle that ships inside the package.

    Raises:
        BundleNotFoundError: no folder, or no manifest in it.
        BundleVersionError: the manifest's version is not one this engine reads.
        BundlePathError: a file name leaves the folder, or is a link.
        BundleCorruptError: the manifest is malformed, or a file is missing or changed.
    """
    folder = DEFAULT_BUNDLE if path is None else Path(path)
    manifest = read_manifest(folder)
    for name, facts in manifest.files.items():
        _verify(_inside(folder, name), facts)
    return Bundle(folder, manifest, _read_tokenizer(folder / TOKENIZER, manifest))


def read_manifest(folder: Path) -> Manifest:
    """The validated manifest of a bundle folder; its files are not looked at.

    Raises:
        BundleNotFoundError, BundleVersionError, BundleCorruptError, BundlePathError.
    """
    file = folder / MANIFEST_NAME
    if not file.is_file():
        raise BundleNotFoundError(
            f"no bundle at {folder}: it has no {MANIFEST_NAME}. "
            "Give the folder that `python -m export` wrote"
        )
    text = _text(_inside(folder, MANIFEST_NAME))
    _check_version(_json(text, file), file)
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleCorruptError(
            f"{file} is not a valid manifest; export the bundle again. {error}"
        ) from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleCorruptError(f"{file} cannot be read as UTF-8 text: {error}") from error


def _json(text: str, file: Path) -> dict[str, Any]:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BundleCorruptError(
            f"{file} is not JSON ({error}); export the bundle again"
        ) from error
    if not isinstance(raw, dict):
        raise BundleCorruptError(f"{file} holds no JSON object; export the bundle again")
    return raw


def _check_version(raw: dict[str, Any], file: Path) -> None:
    """Refuse other versions first: their content may differ in any way."""
    version = raw.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise BundleVersionError(
            f"{file} has format_version {version!r}; this engine reads {FORMAT_VERSION}. "
            "Export the bundle again, or install the engine version that wrote it"
        )


def _inside(folder: Path, name: str) -> Path:
    """The file `name` of the bundle, if that is a relative path of plain folders and no links."""
    windows = PureWindowsPath(name)
    parts = PurePosixPath(name).parts
    if not parts or "\0" in name or "\\" in name or windows.drive or name.startswith("/"):
        raise BundlePathError(f"the manifest names {name!r}, which is no relative path")
    if ".." in parts:
        raise BundlePathError(f"the manifest names {name!r}, which leaves the bundle folder")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise BundlePathError(f"{path} is a link; a bundle holds plain files only: copy it in")
    return path


def _verify(file: Path, facts: FilePart) -> None:
    """Compare size, then SHA-256."""
    if not file.is_file():
        raise BundleCorruptError(f"{file} is missing; copy or export the bundle again")
    size = file.stat().st_size
    if size != facts.bytes:
        raise BundleCorruptError(f"{file} has {size} bytes, the manifest says {facts.bytes}")
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != facts.sha256:
        raise BundleCorruptError(
            f"{file} has SHA-256 {found}, the manifest says {facts.sha256}; "
            "the file was changed: copy or export the bundle again"
        )


def _read_tokenizer(file: Path, manifest: Manifest) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the tokenizers package raises bare Exception
        raise BundleCorruptError(f"{file} is not a tokenizer: {error}") from error
    if tokenizer.get_vocab_size() > manifest.decoder.vocab_size:
        raise BundleCorruptError(
            f"{file} has {tokenizer.get_vocab_size()} tokens, more than the decoder's "
            f"{manifest.decoder.vocab_size}; it belongs to another bundle"
        )
    return tokenizer
