"""Reports without any language model: complete, in the same parts, for slices and series."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine import Assessment, Engine, InputError
from engine.assessment import Score
from engine.dicom.series import SliceSource
from engine.reporting.base import template_report
from engine.template import ATTRIBUTES, LEVELS
from tests.support import llm


def _scores(levels: dict[str, int]) -> dict[str, Score]:
    return {
        name: Score(value=level, level=LEVELS[level], confidence=1, probabilities=(1, 0, 0, 0, 0))
        for name, level in levels.items()
    }


@pytest.mark.parametrize("level", range(5))
def test_a_report_is_complete(level: int) -> None:
    report = template_report(_scores(dict.fromkeys(ATTRIBUTES, level)))
    assert list(report.findings) == list(report.ratings) == list(ATTRIBUTES)
    assert (
        report.suitability == ("unsuitable", "unsuitable", "limited", "suitable", "suitable")[level]
    )
    assert (report.recommendation == "No action needed.") == (level >= 3)
    assert report.impression
    assert report.limits
    assert report.provenance.source == "template"
    assert report.provenance.reason is None


def test_a_caption_without_overall_level_needs_a_person() -> None:
    report = template_report(_scores({"noise": 4}))
    assert report.suitability == "unsuitable"
    assert "person" in report.impression
    assert template_report({}).recommendation == "Repeat the assessment."


def _series(engine: Engine, examples: Path) -> list[Assessment | InputError]:
    slices = [item for item in SliceSource([examples]) if hasattr(item, "hu")]
    found = engine.assess([item.hu for item in slices])
    assert isinstance(found, list)
    return found


def test_a_series_is_summed_up(engine: Engine, examples: Path) -> None:
    found = _series(engine, examples)
    summary = engine.summarise([*found, InputError("bad")])
    assert (summary.slices, summary.assessed) == (6, 5)
    scores = [item.overall for item in found if isinstance(item, Assessment)]
    assert summary.worst == (scores.index(min(scores)),)
    assert f"slice {summary.worst[0]}" in summary.report.impression
    assert "1 could not be assessed" in summary.report.impression
    assert sum(summary.counts["noise"].values()) == 5
    assert summary.means["overall"] == pytest.approx(sum(scores) / 5, abs=0.01)
    assert set(summary.report.findings) == set(ATTRIBUTES)
    assert summary.to_dict()["report"]["provenance"]["source"] == "template"


def test_a_series_of_nothing_is_no_crash(engine: Engine) -> None:
    assert engine.summarise([]).assessed == 0
    assert engine.summarise([InputError("bad")]).report.impression.startswith("No overall")


def test_a_model_sums_up_too_or_the_template_does(engine: Engine, examples: Path) -> None:
    from engine import ReporterOptions

    found = _series(engine, examples)
    with llm.serve(llm.good) as server:
        options = ReporterOptions(base_url=server.base_url, cache=None, attempts=1)
        with Engine.load(threads=1, reporter=options) as asking:
            summary = asking.summarise(found)
            assert summary.report.source == "compatible"
            assert summary.report.provenance.prompt == "series.v1"
            server.behaviours = [llm.status("500 Internal Server Error")]
            again = asking.summarise(found)
            assert again.report.source == "template"
            assert "500" in str(again.report.provenance.reason)
            assert again.worst == summary.worst


def test_provenance_tells_tokens_and_cost(engine: Engine, examples: Path) -> None:
    from engine import ReporterOptions

    with llm.serve() as server:
        options = ReporterOptions(base_url=server.base_url, cache=None, prices=(2.0, 8.0))
        with Engine.load(threads=1, reporter=options) as asking:
            (found, *_) = _series(asking, examples)
            assert isinstance(found, Assessment)
            provenance = found.report.provenance
            assert provenance.model == "model-2026"
            assert provenance.fingerprint == "fp_1"
            assert provenance.prompt == "slice.v1"
            assert (provenance.prompt_tokens, provenance.completion_tokens) == (100, 50)
            assert provenance.cost == pytest.approx((100 * 2 + 50 * 8) / 1e6)
            stats = asking.reporter_stats()
            assert stats is not None
            assert stats.cost == pytest.approx(provenance.cost)


def test_the_template_needs_no_network_package(examples: Path) -> None:
    code = (
        "import sys; from engine import Engine; from engine.dicom.reader import read_slices\n"
        f"hu = read_slices('{examples}/chest-original.dcm')[0].hu\n"
        "with Engine.load() as e: e.summarise([e.assess(hu)])\n"
        "print({'openai', 'httpx2', 'tenacity', 'xllamacpp', 'sqlite3'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
