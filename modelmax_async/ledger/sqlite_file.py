"""The SQLite file: how it is made and opened, and what its errors mean for the user."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from pathlib import Path

import attrs

from modelmax_async._errors import LedgerError
from modelmax_async._runtime import clock
from modelmax_async.ledger.sqlite_schema import Marks, prepare, replaced

#: Seconds between two tries at a lock that SQLite itself does not wait for.
_PAUSE = 0.01

#: Closing a descriptor of a file drops the locks that the process has on it, so that no
#: connection may be made between the making of the file and the closing.
_OPENING = threading.Lock()


@attrs.frozen
class _Place:
    """Where the path leads. A file system gives an inode number again to a later file."""

    device: int
    inode: int


class SQLiteFile:
    """One file at one path, which is noticed when it is another one at a later opening.

    What it remembers outlives connections, threads and forks: a ledger that silently began
    again with an empty file would pay for every job once more.
    """

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._place: _Place | None = None
        self._marks: Marks | None = None

    def written(self, marks: Marks) -> None:
        """Take note of a transaction that has been committed to the file."""
        self._marks = marks

    def check(self) -> None:
        """Check that the path still leads to the file that was opened.

        Raises:
            LedgerError: when it does not.
            OSError: as it comes.
        """
        if self._place not in {None, _look(self.path)}:
            raise replaced(self.path)

    def open(self) -> sqlite3.Connection:
        """Open the file: mode 0600, WAL, every commit synced. Only the first use makes it.

        Raises:
            LedgerError: for a file of a newer schema, or another file than the first time.
            sqlite3.Error, OSError: as they come; see `explain`.
        """
        self.check()
        with _OPENING:
            if self._place is None:
                _make(self.path)
            before = _look(self.path)
            uri = f"{self.path.as_uri()}?mode=rw"  # never makes a file by itself
            timeout = self._busy_timeout
            db = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
        try:
            marks = self._prepare(db)
            if before is None or before != _look(self.path):
                raise replaced(self.path)
        except BaseException:
            db.close()
            raise
        self._place, self._marks = before, marks
        return db

    def _prepare(self, db: sqlite3.Connection) -> Marks:
        """Set the file up; where SQLite reports a lock without waiting for it, wait here.

        It does so where several processes change the journal mode at once, or one of them
        closes the file.
        """
        until = clock.boottime() + self._busy_timeout
        while True:
            try:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA fullfsync = ON")
                marks = prepare(db, self.path, self._marks)
                db.execute("PRAGMA journal_mode = WAL")  # after it: another file stays as it is
            except sqlite3.OperationalError as exc:
                if not _is_lock(exc) or clock.boottime() >= until:
                    raise
                if db.in_transaction:
                    db.execute("ROLLBACK")
            else:
                return marks
            time.sleep(_PAUSE)


def _make(path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _look(path: Path) -> _Place | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _Place(found.st_dev, found.st_ino)


def _is_lock(error: sqlite3.OperationalError) -> bool:
    code = error.sqlite_errorcode & 0xFF  # without what the extended code adds
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL}


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
