"""The SQLite file: how it is made and opened, and what its errors mean for the user."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

from modelmax_async._errors import LedgerError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  origin TEXT NOT NULL,
  request_id TEXT NOT NULL,
  model TEXT NOT NULL,
  status_url TEXT NOT NULL,
  response_url TEXT NOT NULL,
  state TEXT NOT NULL
    CHECK (state IN ('known', 'claimed', 'armed', 'stored', 'failed', 'uncertain')),
  since REAL NOT NULL,
  owner TEXT,
  attempt TEXT,
  lease_until REAL NOT NULL,
  phase TEXT CHECK (phase IN ('sent', 'answered')),
  cause TEXT,
  error TEXT,
  body BLOB,
  UNIQUE (origin, request_id)
);
CREATE INDEX IF NOT EXISTS unfinished ON jobs (origin)
  WHERE state NOT IN ('stored', 'failed');
"""


#: Closing a descriptor of a file drops the locks that the process has on it, so that no
#: connection may be made between the making of the file and the closing.
_OPENING = threading.Lock()


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another at its path; ``None`` when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def open_file(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open the file, making it where there is none: mode 0600, WAL, every commit synced.

    Raises:
        LedgerError: for a file of a newer schema.
        sqlite3.Error, OSError: as they come; see `explain`.
    """
    with _OPENING:
        _make(path)
        db = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")
        db.execute("BEGIN IMMEDIATE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise LedgerError(
                f"the ledger {path} has schema {version}, this version of modelmax_async "
                f"knows {SCHEMA_VERSION}. Nothing was changed and no billed call was made: "
                "upgrade modelmax_async, or use another file"
            )
        if version < SCHEMA_VERSION:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.close()
        raise
    return db


def explain(error: Exception, path: Path) -> LedgerError:
    """Return the error that says what happened to the file and what to do."""
    if isinstance(error, LedgerError):
        return error
    text = str(error)
    made = LedgerError(f"the ledger {path} could not be used ({text}). {_advice(error, text)}")
    made.__cause__ = error.with_traceback(None)
    return made


def _advice(error: Exception, text: str) -> str:
    if "locked" in text or "busy" in text:
        return "Another process holds its lock: find it, or pass a longer busy_timeout"
    if "full" in text:
        return "Make room on the disk, then call again"
    if "not a database" in text or "malformed" in text:
        return (
            "The file is damaged or no ledger. Keep it: `sqlite3 FILE .recover` may save the "
            "paid results in it. Then start with another file"
        )
    if isinstance(error, OSError) or "readonly" in text or "unable to open" in text:
        return "Its directory must exist, and both must be writable"
    return "See the cause; nothing of this step was recorded"
