"""Fork, spawn, and the end of the interpreter: each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_HEAD = """
import multiprocessing, os, sys, threading, warnings
import numpy as np
warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
from engine import Assessment, Engine, EngineForkedError
from engine.dicom.reader import read_slices
hu = read_slices(sys.argv[1])[0].hu
"""


def _run(code: str, examples: Path) -> subprocess.CompletedProcess[str]:
    """Run a script; a deadlock ends in `TimeoutExpired`."""
    command = [sys.executable, "-c", _HEAD + code, str(examples / "chest-original.dcm")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


FORK = """
engine = Engine.load()
before = engine.assess(hu).caption
def child():
    try:
        engine.assess(hu)
    except EngineForkedError as error:
        assert "spawn" in str(error)
        assert not engine.ready
        engine.close()
        with Engine.load() as mine:
            assert mine.assess(hu).caption == before
        sys.exit(7)
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join()
assert process.exitcode == 7, process.exitcode
assert engine.assess(hu).caption == before
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_gets_an_error_that_names_the_remedy_and_may_load_its_own(examples: Path) -> None:
    run = _run(FORK, examples)
    assert run.returncode == 0, run.stderr
    assert "Error" not in run.stderr


BARE_FORK = """
engine = Engine.load()
engine.assess(hu)
child = os.fork()
if child == 0:
    try:
        engine.assess(hu)
    except EngineForkedError:
        print("typed", end="")  # still in Python's buffer when the child ends
    %s
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == %d, status
engine.assess(hu)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(
    ("end", "status"), [("sys.exit(7)", 7), ("sys.exit()", 0), ("raise SystemError", 1)]
)
def test_a_bare_fork_ends_with_its_status(examples: Path, end: str, status: int) -> None:
    """ONNX Runtime's exit handlers would wait for threads that the child has not."""
    run = _run(BARE_FORK % (end, status), examples)
    assert run.returncode == 0, run.stderr
    assert run.stdout == "typed"


def test_spawned_processes_load_their_own(examples: Path, tmp_path: Path) -> None:
    script = tmp_path / "spawned.py"
    body = """
def work(path):
    with Engine.load(threads=1) as mine:
        return mine.assess(read_slices(path)[0].hu).caption
if __name__ == "__main__":
    with Engine.load() as engine:
        expected = engine.assess(hu).caption
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.map(work, [sys.argv[1]]) == [expected]
"""
    script.write_text(_HEAD + body)
    command = [sys.executable, str(script), str(examples / "chest-original.dcm")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "end",
    [
        "engine.assess(hu)",
        "threading.Thread(target=engine.assess, args=([hu] * 20,), daemon=True).start()",
        "threading.Thread(target=engine.assess, args=([hu] * 5,)).start()",
        "sys.exit(0)",
        "import asyncio; asyncio.run(anext(engine.stream([hu] * 20)))",
    ],
)
def test_leaving_without_close_ends_the_process(examples: Path, end: str) -> None:
    run = _run(f"engine = Engine.load()\n{end}", examples)
    assert run.returncode == 0, run.stderr
    if "daemon" not in end:  # a thread left behind may say that it got `EngineClosedError`
        assert not run.stderr


DROPPED = """
import gc, time
engine = Engine.load()
engine.assess(hu)
workers = [t for t in threading.enumerate() if t.name.startswith("iqagpt-batch")]
assert len(workers) == 3
del engine
gc.collect()
for worker in workers:
    worker.join(60)
    assert not worker.is_alive()
"""


def test_an_engine_dropped_without_close_ends_its_threads(examples: Path) -> None:
    run = _run(DROPPED, examples)
    assert run.returncode == 0, run.stderr


MEMORY = """
import gc, psutil
def rss():
    gc.collect()
    return psutil.Process().memory_info().rss
with Engine.load() as small:
    small.assess([hu] * 8)
before = rss()
engine = Engine.load(max_batch=48)
engine.assess([hu] * 48)
held = sum(engine.memory().values())
assert held > 250e6, held
used = rss() - before
assert used > held / 2, (used, held)
engine.close()
assert not any(engine.memory().values())
kept = rss() - before
assert kept < used - held / 2, (kept, used, held)
"""


def test_close_gives_memory_back_to_the_system(examples: Path) -> None:
    run = _run(MEMORY, examples)
    assert run.returncode == 0, run.stderr


STEADY = """
import tracemalloc, psutil
with Engine.load() as engine:
    for _ in range(5):
        engine.assess([hu] * 8)
    held, rss = engine.memory(), psutil.Process().memory_info().rss
    tracemalloc.start()
    for _ in range(10):
        engine.assess([hu] * 8)
    _, peak = tracemalloc.get_traced_memory()
    assert engine.memory() == held
    assert peak < 3 * 512 * 512 * 4, f"{peak} bytes: less than the pixels of one slice"
    assert psutil.Process().memory_info().rss < rss + 20e6
"""


def test_the_steady_state_allocates_nothing_large(examples: Path) -> None:
    run = _run(STEADY, examples)
    assert run.returncode == 0, run.stderr
