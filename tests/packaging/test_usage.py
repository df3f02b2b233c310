"""What users write type-checks and runs; the public names are the documented ones."""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import engine
from engine import Engine

from . import usage

ROOT = Path(__file__).parents[2]


def test_usage_type_checks() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "tests/packaging/usage.py"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_usage_runs(engine: Engine, chest: NDArray[np.float32]) -> None:
    assert usage.one(engine, chest.astype(np.int16)) is not None
    assert usage.one(engine, np.zeros((64, 64), np.int16)) is None
    captions = usage.many(engine, [chest, chest[:10]])
    assert "64 to 4096" in captions[1]
    assert asyncio.run(usage.streamed(engine, [chest] * 3)) == [captions[0]] * 3
    assert usage.figures(engine)[0] >= 3


def test_every_public_name_is_in_the_documentation() -> None:
    text = (ROOT / "engine" / "README.md").read_text()
    missing = [name for name in engine.__all__ if f"`{name}" not in text]
    assert not missing
