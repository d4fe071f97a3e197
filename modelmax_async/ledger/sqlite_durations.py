"""What clients learn about how long jobs take, in a ledger file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from modelmax_async._runtime import clock

_LOAD_DURATIONS = "SELECT model, record FROM durations WHERE origin = ? AND version = ?"
_READ_DURATIONS = "SELECT record FROM durations WHERE origin = ? AND model = ? AND version = ?"
_WRITE_DURATIONS = """
INSERT INTO durations (origin, model, version, since, record) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (origin, model, version)
DO UPDATE SET since = excluded.since, record = excluded.record
"""


def load(db: sqlite3.Connection, origin: str, version: int) -> dict[str, bytes]:
    """Return the records of an origin by model."""
    return dict(db.execute(_LOAD_DURATIONS, (origin, version)).fetchall())


def add(
    db: sqlite3.Connection, key: tuple[str, str, int], change: Callable[[bytes | None], bytes]
) -> bytes:
    """Replace the record of a key by what ``change`` makes of it, and return that."""
    row = db.execute(_READ_DURATIONS, key).fetchone()
    record = change(None if row is None else row[0])
    db.execute(_WRITE_DURATIONS, (*key, clock.wall(), record))
    return record
