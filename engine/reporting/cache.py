"""Replies on disk: SQLite, shared by processes, bounded in size, JSON text only.

A cache must never cost an assessment: whatever SQLite reports (locked, full, corrupt, read-only)
counts as a miss and in `errors`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_use ON replies (used);
"""
_BUSY_SECONDS: Final = 2.0


def key(*parts: Any) -> str:
    """SHA-256 of JSON values: model, prompt version, schema, captions, …"""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ReplyCache:
    """Key -> JSON text; threads and processes may share the file."""

    def __init__(self, path: Path | None, limit: int) -> None:
        """Open or make `path`; None is a cache that keeps nothing. `limit` is in bytes of text."""
        self._lock = threading.Lock()
        self._limit = limit
        self.errors = 0
        self._base: sqlite3.Connection | None = None
        if path is not None:
            try:
                self._base = _open(path)
            except (sqlite3.Error, OSError):
                self.errors += 1

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The values of those keys that are there."""
        found: dict[str, str] = {}
        with self._lock:
            if self._base is None:
                return found
            try:
                with self._base as base:
                    for name in keys:
                        row = base.execute(
                            "UPDATE replies SET used = ? WHERE key = ? RETURNING value",
                            (time.time(), name),
                        ).fetchone()
                        if row is not None:
                            found[name] = row[0]
            except sqlite3.Error:
                self.errors += 1
        return found

    def put(self, values: dict[str, str]) -> None:
        """Keep values; the least recently used ones go when the limit is passed."""
        rows = [(name, text, len(text), time.time()) for name, text in values.items()]
        with self._lock:
            if self._base is None:
                return
            try:
                with self._base as base:
                    base.executemany("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", rows)
                    self._shrink(base)
            except sqlite3.Error:
                self.errors += 1

    def clear(self) -> int:
        """Forget everything; returns how many replies there were."""
        with self._lock:
            if self._base is None:
                return 0
            with self._base as base:
                count = base.execute("DELETE FROM replies").rowcount
            self._base.execute("VACUUM")
            return int(count)

    def size(self) -> tuple[int, int]:
        """Number of replies, and their bytes."""
        with self._lock:
            if self._base is None:
                return 0, 0
            query = "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM replies"
            count, size = self._base.execute(query).fetchone()
            return int(count), int(size)

    def close(self) -> None:
        """Close the file; later calls find nothing."""
        with self._lock:
            if self._base is not None:
                self._base.close()
                self._base = None

    def _shrink(self, base: sqlite3.Connection) -> None:
        (size,) = base.execute("SELECT COALESCE(SUM(bytes), 0) FROM replies").fetchone()
        if size <= self._limit:
            return
        for name, length in base.execute("SELECT key, bytes FROM replies ORDER BY used").fetchall():
            if size <= self._limit:
                return
            base.execute("DELETE FROM replies WHERE key = ?", (name,))
            size -= length


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    base = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        base.execute("PRAGMA journal_mode = WAL")
        base.execute("PRAGMA synchronous = NORMAL")
        base.executescript(_SCHEMA)
    except sqlite3.Error:
        base.close()
        raise
    path.chmod(0o600)
    return base
