"""What an engine says about itself: figures that add up, and a log without identity."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest

from engine import Assessment, Engine, InputError
from engine.observe import SECONDS, STAGES, Meter
from engine.prometheus import register


@given(st.lists(st.floats(0, 100, allow_nan=False)))
def test_a_histogram_counts_every_value_once(values: list[float]) -> None:
    meter = Meter(4)
    for value in values:
        meter.time("encode", value)
    found = meter.snapshot(0).encode
    assert found.count == len(values)
    assert found.total == pytest.approx(sum(values))
    for bound, reached in zip(SECONDS, np.cumsum(found.counts), strict=False):
        assert reached == sum(value <= bound for value in values)


def test_stats_and_timings_say_where_time_went(chest: NDArray[np.float32]) -> None:
    bad = np.full_like(chest, np.nan)
    with Engine.load(max_batch=4) as engine:
        found = engine.assess([chest, bad, chest, chest, chest, chest])
        with pytest.raises(InputError):
            engine.assess(bad)
        stats = engine.stats()
    good = [item for item in found if isinstance(item, Assessment)]
    assert (stats.accepted, stats.assessed, stats.invalid) == (7, 5, 2)
    assert stats.batch_size.total == 5
    assert [a.batch_size for a in good] == [4, 4, 4, 4, 1]
    assert stats.decoder_passes == sum(a.decoder_passes for a in good)
    assert stats.draft_accepted == sum(a.draft_accepted for a in good) > 0
    assert stats.encode.count == stats.decode.count == stats.batch_size.count == 2
    assert stats.prepare.count == stats.queue.count == 5
    for stage in ("encode", "decode", "prepare", "queue"):
        assert getattr(stats, stage).total == pytest.approx(
            sum(getattr(a.timings, stage) for a in good), rel=1e-6
        )
    for item in good:
        assert 0 < item.timings.first_token <= item.timings.decode
        assert json.loads(item.to_json())["timings"].keys() == set(STAGES)
    json.dumps(stats.to_dict())


def test_prometheus_shows_the_same_numbers(chest: NDArray[np.float32]) -> None:
    registry = CollectorRegistry()
    with Engine.load() as engine:
        collector = register(engine, registry)
        engine.assess([chest] * 3)
        text, stats, held = generate_latest(registry).decode(), engine.stats(), engine.memory()
        registry.unregister(collector)
    shown = dict(re.findall(r"^(iqagpt_\S+) (\S+)$", text, re.MULTILINE))
    assert float(shown['iqagpt_slices_total{outcome="assessed"}']) == 3
    assert float(shown['iqagpt_slices_total{outcome="refused"}']) == 0
    assert float(shown["iqagpt_decoder_passes_total"]) == stats.decoder_passes
    assert float(shown['iqagpt_batch_size_bucket{le="2.0"}']) == 0
    assert float(shown['iqagpt_batch_size_bucket{le="3.0"}']) == 1
    assert float(shown["iqagpt_batch_size_sum"]) == 3
    assert float(shown["iqagpt_ready"]) == 1
    for kind, size in held.items():
        assert float(shown[f'iqagpt_memory_bytes{{kind="{kind}"}}']) == size
    for stage in STAGES:
        tally = getattr(stats, stage)
        assert float(shown[f'iqagpt_stage_seconds_count{{stage="{stage}"}}']) == tally.count
        assert float(shown[f'iqagpt_stage_seconds_sum{{stage="{stage}"}}']) == tally.total
        assert float(shown[f'iqagpt_stage_seconds_bucket{{le="+Inf",stage="{stage}"}}']) == (
            tally.count
        )


def test_the_log_is_under_the_librarys_name_and_holds_no_identity(
    dicom_files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from engine.dicom.series import SliceSource
    from engine.output.rows import assessed

    caplog.set_level(logging.DEBUG)
    with Engine.load() as engine:
        rows = [row for row, _ in assessed(engine, SliceSource([dicom_files]), 4)]
    own = [record for record in caplog.records if record.name.split(".")[0] == "engine"]
    said = "\n".join(record.getMessage() for record in own)
    assert "loaded bundle" in said
    assert "closed" in said
    assert not [row.name for row in rows if row.name in said]
    for identity in ("CompressedSamples", "Patient", "1.3.6.1", "1.2.840", "JFK"):
        assert identity not in said
