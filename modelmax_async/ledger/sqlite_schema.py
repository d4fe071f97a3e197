"""The tables of a ledger file, and the upgrade from an older schema.

Schema 1 had a table of jobs only. Its table had another name, so that a process of the older
version which still has the file open fails instead of writing rows that would be misread.
"""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import NamedTuple

from modelmax_async._errors import LedgerError

SCHEMA_VERSION = 2

#: The condition of the index. SQLite uses the index only for queries with the same condition.
UNFINISHED = "state IN ('known', 'claimed', 'armed', 'uncertain')"
_STATES = (
    "'known', 'claimed', 'armed', 'stored', 'failed', 'uncertain', 'abandoned', 'delivered'"
)

#: The body is the last column, so that the others are read without its pages.
_CREATE = (
    f"""
    CREATE TABLE entries (
      origin TEXT NOT NULL,
      request_id TEXT NOT NULL,
      model TEXT NOT NULL,
      status_url TEXT NOT NULL,
      response_url TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ({_STATES})),
      since REAL NOT NULL,
      owner TEXT,
      attempt TEXT,
      lease_until REAL NOT NULL,
      lease REAL NOT NULL,
      resting TEXT CHECK (resting IN ({_STATES})),
      decided TEXT,
      phase TEXT CHECK (phase IN ('sent', 'answered')),
      cause TEXT,
      error TEXT,
      acknowledged INTEGER NOT NULL CHECK (acknowledged IN (0, 1)),
      submitted_at REAL,
      submit_key TEXT,
      saved_at REAL,
      body BLOB,
      UNIQUE (origin, request_id)
    )
    """,
    f"CREATE INDEX entries_unfinished ON entries (origin) WHERE {UNFINISHED}",
    """
    CREATE TABLE submissions (
      origin TEXT NOT NULL,
      submit_key TEXT NOT NULL,
      fingerprint TEXT NOT NULL,
      since REAL NOT NULL,
      attempt TEXT,
      lease_until REAL NOT NULL,
      lease REAL NOT NULL,
      model TEXT,
      request_id TEXT,
      status_url TEXT,
      response_url TEXT,
      UNIQUE (origin, submit_key)
    )
    """,
    """
    CREATE TABLE durations (
      origin TEXT NOT NULL,
      model TEXT NOT NULL,
      version INTEGER NOT NULL,
      since REAL NOT NULL,
      record BLOB NOT NULL,
      UNIQUE (origin, model, version)
    )
    """,
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
)

#: Counts the writes to the file, so that an older copy of it can be recognized.
_COUNT = "UPDATE meta SET value = value + 1 WHERE name = 'writes'"

#: What a call in progress began from is derived from the other columns. An uncertain job may
#: have been paid for by an earlier call too, so it rests in "uncertain" and is never released.
_FROM_1 = (
    """
    INSERT INTO entries (
      origin, request_id, model, status_url, response_url, state, since, owner, attempt,
      lease_until, lease, resting, phase, cause, error, acknowledged, body
    )
    SELECT
      origin, request_id, model, status_url, response_url, state, since, owner, attempt,
      lease_until, 10.0,
      CASE
        WHEN state = 'uncertain' THEN 'uncertain'
        WHEN state NOT IN ('claimed', 'armed') THEN NULL
        WHEN phase IS NOT NULL THEN 'uncertain'
        WHEN body IS NOT NULL THEN 'stored'
        ELSE 'known'
      END,
      phase, cause, error, 1, body
    FROM jobs ORDER BY rowid
    """,
    "DROP TABLE jobs",
)


class Marks(NamedTuple):
    """What distinguishes a ledger from another one, and from an older copy of itself."""

    ledger_id: str
    writes: int


def prepare(db: sqlite3.Connection, path: Path, expected: Marks | None) -> Marks:
    """Create or upgrade the tables in one transaction, and return the ledger's marks.

    If ``expected`` has the marks that the file had before, the tables are neither created nor
    upgraded.

    Raises:
        LedgerError: for a file of a newer schema, for another ledger than the expected one,
            and for an older copy of it.
    """
    db.execute("BEGIN IMMEDIATE")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger {path} has schema {version}, but this version of modelmax_async "
            f"supports {SCHEMA_VERSION}. Nothing was changed and no billed call was made: "
            "upgrade modelmax_async, or use another file"
        )
    if version < SCHEMA_VERSION:
        if expected is not None:
            raise replaced(path)
        _upgrade(db, version)
    marks = _marks(db)
    if expected is not None:
        same = marks.ledger_id == expected.ledger_id
        if not same or marks.writes < expected.writes:
            raise replaced(path)
    db.execute("COMMIT")
    return marks


def count_write(db: sqlite3.Connection) -> Marks:
    """Count a write, as part of its transaction."""
    db.execute(_COUNT)
    return _marks(db)


def _marks(db: sqlite3.Connection) -> Marks:
    found = dict(db.execute("SELECT name, value FROM meta").fetchall())
    return Marks(found.get("ledger_id", ""), int(found.get("writes", 0)))


def _upgrade(db: sqlite3.Connection, version: int) -> None:
    for statement in (*_CREATE, *(_FROM_1 if version else ())):
        db.execute(statement)
    db.execute("INSERT INTO meta VALUES ('ledger_id', ?), ('writes', '0')", (uuid.uuid4().hex,))
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def replaced(path: Path) -> LedgerError:
    """Return the error for a file that is not the one that was in use."""
    return LedgerError(
        f"the ledger {path} was removed or replaced while in use. Nothing was recorded and no "
        "billed call was made: put the file back. To use another file, create a new "
        "SQLiteLedger and a new client"
    )
