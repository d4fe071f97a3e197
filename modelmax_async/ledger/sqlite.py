"""The ledger in one SQLite file, shared by any number of processes of one host."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection

from modelmax_async import _models as models
from modelmax_async._arguments import check_flag
from modelmax_async._errors import ConfigurationError
from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async._reprs import always_shown
from modelmax_async._runtime import clock
from modelmax_async._validators import is_number
from modelmax_async.ledger import sqlite_durations as durations
from modelmax_async.ledger import sqlite_submissions as submissions
from modelmax_async.ledger.columns import ENTRY, entry_of, row_of
from modelmax_async.ledger.lists import Entries, add_entry, add_submission
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.protocol import Key, SubmitKey
from modelmax_async.ledger.sqlite_file import check_file
from modelmax_async.ledger.sqlite_schema import UNFINISHED
from modelmax_async.ledger.sqlite_thread import SQLiteThread
from modelmax_async.ledger.submissions import SubmitStep
from modelmax_async.ledger.transitions import Step, job_step

_COLUMNS = ", ".join(ENTRY)
_READ = f"SELECT {_COLUMNS}, body FROM entries WHERE origin = ? AND request_id = ?"  # noqa: S608 - constants
_DELETE = "DELETE FROM entries WHERE origin = ? AND request_id = ?"
#: Whether there is a body, without its pages: the type is in the head of the row.
_HAS_BODY = "CASE typeof(body) WHEN 'null' THEN NULL WHEN 'blob' THEN x'' ELSE typeof(body) END"
_LIST = f"SELECT {_COLUMNS}, {_HAS_BODY} FROM entries WHERE origin = ? ORDER BY rowid"  # noqa: S608 - constants
_LIST_UNFINISHED = _LIST.replace("ORDER", f"AND {UNFINISHED} ORDER")
_CHANGED = ", ".join(f"{name} = excluded.{name}" for name in (*ENTRY, "body"))
_WRITE = f"""
INSERT INTO entries (origin, {_COLUMNS}, body) VALUES ({", ".join("?" * 21)})
ON CONFLICT (origin, request_id) DO UPDATE SET {_CHANGED}
"""  # noqa: S608 - constants


@always_shown
class SQLiteLedger:
    """The durable ledger: one file, safe for many processes of one host.

    Every move is a transaction that is synced to disk before it takes effect; concurrent moves
    share one. The file holds request ids and paid responses, never the API key, and a new
    file can be read by its owner only. Keep it on a local disk: locks on network file systems
    are unreliable.

    Args:
        path: the file. It is created at the first use, its directory is not.
        busy_timeout: seconds to wait for a lock that another process holds.
        shared: use the file even if it belongs to another user, or if others can write to it.
            Whoever can write to it decides what counts as paid for.

    Raises:
        ConfigurationError: for a path that cannot be a file, such as ``":memory:"``, or one in
            a directory that does not exist; for another argument that cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        busy_timeout: float = 10.0,
        shared: bool = False,
    ) -> None:
        checked = check_file(path)
        if not is_number(busy_timeout) or not 0 <= busy_timeout < float("inf"):
            raise ConfigurationError(
                f"busy_timeout must be a number of seconds from 0, got {busy_timeout!r:.100}"
            )
        try:
            check_flag("shared", shared)
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from None
        self._thread = SQLiteThread(checked, busy_timeout, shared=shared)

    def __repr__(self) -> str:
        return f"SQLiteLedger({str(self._thread.path)!r})"

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        """Take one `step` in a transaction that is on disk on return, see `Ledger.apply`."""
        if isinstance(key, SubmitKey):
            return await self._thread.run(lambda db: submissions.apply(db, key, move))
        return await self._thread.run(lambda db: _apply(db, key, move))

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, see `Ledger.entries`."""
        wanted = frozenset(states)
        return await self._thread.run(lambda db: _entries(db, origin, wanted))

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        """Return the records of an origin by model, see `KeepsDurations`."""
        return await self._thread.run(lambda db: durations.load(db, origin, version))

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        """Add to one record in a transaction, see `KeepsDurations`."""
        key = (origin, model, version)
        return await self._thread.run(lambda db: durations.add(db, key, add))

    async def aclose(self) -> None:
        """Finish pending moves and close the file. The next use opens it again."""
        await self._thread.aclose()


def _apply(db: sqlite3.Connection, key: Key, move: Move) -> Step | None:
    row = db.execute(_READ, key).fetchone()
    before = None if row is None else entry_of(row)
    done = job_step(before, move, clock.wall())
    if done is not None and done.deleted:
        db.execute(_DELETE, key)
    elif done is not None and done.entry is not before:
        db.execute(_WRITE, (key.origin, *row_of(done.entry)))
    return done


def _entries(db: sqlite3.Connection, origin: str, states: frozenset[LedgerState]) -> Entries:
    now, found = clock.wall(), Entries()
    query = _LIST_UNFINISHED if states <= models.UNFINISHED else _LIST
    for row in db.execute(query, (origin,)):
        add_entry(found, row, now, states)
    if "known" in states:
        for row in submissions.without_entry(db, origin):
            add_submission(found, row)
    return found
