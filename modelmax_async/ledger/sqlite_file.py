"""The SQLite file: how it is created and opened, and what its errors mean for the user."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path

import attrs

from modelmax_async._arguments import check_path
from modelmax_async._errors import ConfigurationError, LedgerError
from modelmax_async._errors.sentences import clause
from modelmax_async._runtime import clock
from modelmax_async.ledger.rows import UnreadableRowError
from modelmax_async.ledger.sqlite_access import check_access
from modelmax_async.ledger.sqlite_schema import Marks, prepare, replaced

#: What SQLite, or a library for several databases, takes for an address.
_URL = re.compile(r"file:|\w+(\+\w+)?://", re.IGNORECASE)
#: Seconds between two attempts to get a lock that SQLite itself does not wait for.
_PAUSE = 0.01
_FULL = "Free space on the disk, then call again"
_DAMAGED = ("not a database", "malformed", "no such table", "no such column", "already exists")
_UNUSABLE = "Its directory must exist, and the file and the directory must be writable"

#: Closing a descriptor of a file drops the locks of the process on it, so no connection may be
#: opened while the file is created.
_OPENING = threading.Lock()


@attrs.frozen
class _Place:
    """The file that a path leads to. A later file may get the same inode number."""

    device: int
    inode: int


class SQLiteFile:
    """The file at one path. It notices when the path later leads to another file.

    What it remembers outlives connections, threads and forks: a ledger that silently started
    over with an empty file would pay for every job again.
    """

    def __init__(self, path: Path, busy_timeout: float, *, shared: bool = False) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._shared = shared
        self._place: _Place | None = None
        self._marks: Marks | None = None

    def written(self, marks: Marks) -> None:
        """Note the marks of a transaction that was committed to the file."""
        self._marks = marks

    def check(self) -> None:
        """Raise a `LedgerError` if the path does not lead to the opened file any more."""
        if self._place not in {None, _look(self.path)}:
            raise replaced(self.path)

    def open(self) -> sqlite3.Connection:
        """Open the file: mode 0600, WAL, every commit synced. Only the first use creates it.

        Raises:
            LedgerError: for a file of a newer schema, another file than before, or one that
                another user could have written, see `check_access`.
            sqlite3.Error, OSError: see `explain`.
        """
        self.check()
        with _OPENING:
            if self._place is None:
                _make(self.path)
            check_access(self.path, shared=self._shared)
            before = _look(self.path)
            uri = f"{self.path.as_uri()}?mode=rw"  # does not create the file
            timeout = self._busy_timeout
            db = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
        # Text that is not UTF-8 makes its own row unreadable, and not the list that it is in.
        db.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
        try:
            marks = self._prepare(db)
            check_access(self.path, shared=self._shared)  # again: a file may be new
            if before is None or before != _look(self.path):
                raise replaced(self.path)
        except BaseException:
            db.close()
            raise
        self._place, self._marks = before, marks
        return db

    def _prepare(self, db: sqlite3.Connection) -> Marks:
        """Set up the file; SQLite does not wait for all of the locks that this needs."""
        until = clock.boottime() + self._busy_timeout
        while True:
            try:
                db.execute("PRAGMA synchronous = FULL")
                db.execute("PRAGMA fullfsync = ON")
                marks = prepare(db, self.path, self._marks)
                # Last: a file that is refused stays unchanged.
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as exc:
                if not _is_lock(exc) or clock.boottime() >= until:
                    raise
                if db.in_transaction:
                    db.execute("ROLLBACK")
            else:
                return marks
            time.sleep(_PAUSE)


def check_file(path: object) -> Path:
    """Return the absolute path of a file that can be made, or is there, as far as a look tells.

    Raises:
        ConfigurationError: for anything else, such as a URL, whose password is not shown.
    """
    try:
        text = check_path("path", path)
    except ValueError as exc:
        raise ConfigurationError(str(exc)) from None
    if text in {"", ":memory:"} or "\0" in text:
        raise ConfigurationError(
            f"path must be a file, got {text!r}; use a MemoryLedger for none"
        )
    if _URL.match(text):
        raise ConfigurationError(
            "path must be the path of a file, such as 'runs.db', got a URL. A PostgreSQL "
            "database needs a PostgresLedger"
        )
    file = Path(text).absolute()
    if not file.parent.is_dir():
        raise ConfigurationError(
            f"path must be in a directory that exists, got {text!r}: make the directory "
            f"{file.parent} first"
        )
    if file.is_dir():
        raise ConfigurationError(
            f"path must be a file, got the directory {text!r}: pass {str(file / 'runs.db')!r}"
        )
    return file


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
    code = error.sqlite_errorcode & 0xFF  # the primary code of an extended one
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL}


def explain(error: BaseException, path: Path) -> LedgerError:
    """Return the `LedgerError` that says what happened to the file and what to do."""
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, UnreadableRowError):
        return error.explained(str(path))
    text = str(error)
    advice = _advice(error, text)
    made = LedgerError(f"the ledger {path} could not be used ({clause(text)}). {advice}")
    made.__cause__ = error.with_traceback(None)
    return made


def _advice(error: BaseException, text: str) -> str:
    if isinstance(error, OSError):  # its text has the path, in which any word may occur
        return _FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else _UNUSABLE
    if "locked" in text or "busy" in text:
        return (
            "Another process holds its lock: stop that process, or pass a longer busy_timeout"
        )
    if "full" in text:
        return _FULL
    if isinstance(error, ValueError | TypeError) or any(word in text for word in _DAMAGED):
        return (
            "It is damaged or not a ledger. Keep it: `sqlite3 FILE .recover` may save the paid "
            "results in it. Then use another file"
        )
    if "readonly" in text or "unable to open" in text:
        return _UNUSABLE
    return "See the cause; nothing was recorded"
