"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Write to the path this gives; it becomes `path` when the block ends well.

    A process that dies half-way leaves the old file, if there was one, as it was.
    """
    part = path.with_name(path.name + ".part")
    yield part
    os.replace(part, path)
