"""What captions follow, and what guesses their levels: drafts become better, captions stay."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Assessment, Engine
from engine.bundle.manifest import ENCODER
from engine.bundle.store import open_bundle
from engine.decoding.greedy import greedy
from engine.decoding.verify import drafted
from engine.template import ATTRIBUTES, CT_IQA, LEVELS
from export import draft_head, export, to_onnx
from export.__main__ import main
from export.runtime import opened
from export.sources.base import Source

CLAUSES = [
    {"attribute": name, "sentences": [f"{name} is {level} ." for level in LEVELS]}
    for name in reversed(ATTRIBUTES)
]


def assessed(bundle: Path, hu: NDArray[np.float32]) -> Assessment:
    with Engine.load(bundle) as engine:
        found = engine.assess(hu)
    assert isinstance(found, Assessment)
    return found


def test_a_bundle_without_a_template_is_decoded_step_by_step(
    checkpoint: Path,
    tmp_path: Path,
    chest: NDArray[np.float32],
) -> None:
    export(checkpoint, tmp_path / "drafted", [chest])
    manifest = export(checkpoint, tmp_path / "free", [chest], template=None)
    assert manifest.template == "none"
    assert open_bundle(tmp_path / "free").manifest.captions is None
    drafted, free = (assessed(tmp_path / name, chest) for name in ("drafted", "free"))
    assert drafted.caption == free.caption
    assert free.draft_accepted == 0
    assert manifest.parity["decoder_passes"] == free.decoder_passes


def test_a_bundle_takes_its_template_from_a_file(
    checkpoint: Path,
    tmp_path: Path,
    chest: NDArray[np.float32],
) -> None:
    file, out = tmp_path / "template.json", tmp_path / "bundle"
    file.write_text(json.dumps(CLAUSES))
    assert main([str(checkpoint), "--out", str(out), "--count", "1", "--template", str(file)]) == 0
    template = open_bundle(out).manifest.captions
    assert template is not None
    assert template.attributes == tuple(reversed(ATTRIBUTES))
    assert template != CT_IQA
    export(checkpoint, tmp_path / "own", [chest])
    assert assessed(out, chest).caption == assessed(tmp_path / "own", chest).caption


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("{", "no list of"),
        ('[{"attribute": "noise"}]', "sentences"),
        (json.dumps(CLAUSES[1:]), "exactly noise"),
        (json.dumps([*CLAUSES, CLAUSES[0]]), "twice"),
        (json.dumps(CLAUSES).replace("is bad", "is dreadful"), "must hold the word 'bad'"),
        (json.dumps(CLAUSES).replace("is bad", "is -bad"), "writes the word 'bad' otherwise"),
    ],
)
def test_a_file_that_holds_no_template_is_refused(
    checkpoint: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    text: str | None,
    message: str,
) -> None:
    file = tmp_path / "template.json"
    if text is not None:
        file.write_text(text)
    out = tmp_path / "bundle"
    assert main([str(checkpoint), "--out", str(out), "--template", str(file)]) == 2
    assert message in capfd.readouterr().err
    assert not out.exists()


def test_a_source_without_a_guess_is_given_a_head_that_guesses(
    source: Source, graphs: Path, pixels: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    """On the slices that it was fitted on; those that it never saw need trained weights."""
    folder = Path(shutil.copytree(graphs, tmp_path / "graphs"))
    batch = np.stack(pixels)
    with opened(source, folder, template=CT_IQA) as runtime:
        decoder = runtime.graphs.encode(batch)
        assert decoder.guesses is None
        written = greedy(decoder, runtime.rules)
        levels = [
            [runtime.rules.levels.index(t) for t in row.tokens if t in runtime.rules.levels][:5]
            for row in written
        ]
    source.guess = draft_head.fit(source, folder, pixels, CT_IQA)
    to_onnx.export_encoder(source, folder / ENCODER)
    source.guess = None  # other tests share it
    with opened(source, folder, template=CT_IQA) as runtime:
        decoder = runtime.graphs.encode(batch)
        assert decoder.guesses is not None
        assert decoder.guesses.tolist() == levels
        found = drafted(decoder, runtime.drafter, runtime.rules)
    assert [row.tokens for row in found] == [row.tokens for row in written]


def test_one_caption_is_too_few_to_fit_on(
    source: Source, graphs: Path, pixels: list[NDArray[np.float32]]
) -> None:
    assert draft_head.fit(source, graphs, pixels[:1], CT_IQA) is None
