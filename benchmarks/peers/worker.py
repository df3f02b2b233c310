"""`python -m benchmarks.peers.worker MODULE:CLASS`: one contestant in a process of its own.

JSON lines: the first line in is a `Setup`, answered by {"versions", "load_seconds"}; every further
line is a list of row numbers, answered by {"tokens", "encode", "total", "peak_rss_mb",
"passes"} (seconds).
A line {"error"} says why there is no answer. The end of the input ends the process. Whatever
libraries print goes to stderr: stdout carries answers alone.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np

from .protocol import Peer, Pixels, Setup


def main() -> int:
    """Serve the contestant that the command line names."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, name = sys.argv[1].split(":")
    try:
        serve(getattr(importlib.import_module(module), name), sys.stdin, answers)
    except Exception as error:  # whatever a runtime raises, the benchmark reports
        _say(answers, {"error": f"{type(error).__name__}: {error}"})
        raise
    return 0


def serve(kind: Callable[[Setup], Peer], questions: TextIO, answers: TextIO) -> None:
    """Load, then run batches until the input ends."""
    begin = time.perf_counter()
    setup = Setup.from_json(questions.readline())
    peer = kind(setup)
    pixels = np.load(setup.pixels)
    loaded = time.perf_counter() - begin
    _say(answers, {"versions": peer.versions(), "load_seconds": loaded})
    for line in questions:
        _say(answers, _run(peer, np.ascontiguousarray(pixels[json.loads(line)])))


def _run(peer: Peer, pixels: Pixels) -> dict[str, Any]:
    peer.encode.seconds = 0.0
    begin = time.perf_counter()
    tokens = peer.run(pixels)
    total = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return {
        "tokens": tokens,
        "encode": peer.encode.seconds,
        "total": total,
        "peak_rss_mb": peak,
        "passes": getattr(peer, "passes", None),
    }


def _say(stream: TextIO, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    raise SystemExit(main())
