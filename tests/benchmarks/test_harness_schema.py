"""Published schemas are those of the code, and the machine's description fits."""

import math
import subprocess
import sys

import pytest
from pydantic import ValidationError

from benchmarks.harness import machine, schema


def test_published_schemas_are_current() -> None:
    found = {path.name: path.read_text() for path in schema.SCHEMAS.iterdir()}
    assert found == schema.published(), "run `python -m benchmarks.harness.schema`"


def test_this_machine_is_described() -> None:
    found = schema.Machine.model_validate(machine.describe())
    assert found.cores >= 1
    assert found.memory_mb > 100
    assert found.packages.keys() >= {"iqagpt", "numpy", "onnxruntime"}


def test_peak_memory_counts_what_was_given_back() -> None:
    before = machine.peak_rss_mb()
    block = bytearray(b"x") * (int(before) * 2**20 + 64 * 2**20)
    assert len(block) < 2 * 2**30
    del block
    assert machine.peak_rss_mb() > before + 32


def test_a_distribution_keeps_zeros_and_refuses_nan() -> None:
    found = schema.Distribution.of_seconds([0.0] * 6)
    assert (found.n, found.mean, found.percentiles["p50"].value) == (6, 0.0, 0.0)
    assert "p90" not in found.percentiles
    with pytest.raises(ValidationError):
        schema.Distribution.of_seconds([math.nan])
    with pytest.raises(ValueError, match="needs a value"):
        schema.Distribution.of_rates([])


@pytest.mark.parametrize("name", ["latency", "throughput", "compare"])
def test_help_loads_nothing_heavy(name: str) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_module('benchmarks.{name}', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: print(end.code, {'numpy', 'onnxruntime', 'pydantic',"
        "'matplotlib', 'scipy', 'torch', 'rich'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "0 set()"
    assert "example:" in run.stdout
