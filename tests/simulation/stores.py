"""What several processes share: stores in memory that outlive all of them."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Collection, Coroutine
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from modelmax_async import LedgerEntry, MemoryLedger
from modelmax_async.ledger import (
    Key,
    Move,
    Step,
    SubmitKey,
    SubmitStep,
    sqlite,
    sqlite_durations,
)
from modelmax_async.ledger import sqlite_submissions as submissions
from modelmax_async.ledger.columns import entry_of
from modelmax_async.ledger.sqlite_file import SQLiteFile

#: What a ledger's list of entries may be asked for.
States = Collection[Any]
#: What adds to a record of durations.
Add = Callable[[bytes | None], bytes]


class Shared(Protocol):
    """What the processes share. Nothing here waits: latency and failures are the handle's."""

    def entries(self, origin: str, states: States) -> list[LedgerEntry]:
        """List entries."""
        ...

    def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        """Load what was learnt."""
        ...

    def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        """Add what was learnt."""
        ...

    def peek(self, key: Key) -> LedgerEntry | None:
        """Return the entry as it is, for the judge."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Store(Shared, Protocol):
    """One in which a move is a single piece of work."""

    def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        """Take one step, durably."""
        ...


def _now(coro: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that has nothing to wait for."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a store in memory waits for something")


class MemoryStore:
    """A `MemoryLedger` that outlives processes: it stands for any remote store."""

    def __init__(self) -> None:
        self._ledger = MemoryLedger()

    def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        done: Step | SubmitStep | None = _now(self._ledger.apply(key, move))
        return done

    def entries(self, origin: str, states: States) -> list[LedgerEntry]:
        found: list[LedgerEntry] = _now(self._ledger.entries(origin, states))
        return found

    def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        found: dict[str, bytes] = _now(self._ledger.load_durations(origin, version))
        return found

    def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        record: bytes = _now(self._ledger.add_durations(origin, model, version, add))
        return record

    def peek(self, key: Key) -> LedgerEntry | None:
        return self._ledger._entries.get(key)

    def close(self) -> None:
        pass


@cache
def prepare() -> sqlite3.Connection:
    """Return an empty ledger as the package makes it, to copy: making one syncs a disk."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(SQLiteFile(Path(directory, "ledger.db"), 1.0).open()) as file,
    ):
        file.backup(made)
    return made


class SQLiteStore:
    """The SQLite ledger's own statements, inline: no thread, no disk."""

    def __init__(self) -> None:
        self._db = sqlite3.connect(":memory:", isolation_level=None)
        prepare().backup(self._db)

    def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            if isinstance(key, SubmitKey):
                return submissions.apply(self._db, key, move)
            return sqlite._apply(self._db, key, move)
        finally:
            self._db.execute("COMMIT")

    def entries(self, origin: str, states: States) -> list[LedgerEntry]:
        return sqlite._entries(self._db, origin, frozenset(states))

    def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        return sqlite_durations.load(self._db, origin, version)

    def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        return sqlite_durations.add(self._db, (origin, model, version), add)

    def peek(self, key: Key) -> LedgerEntry | None:
        row = self._db.execute(sqlite._READ, key).fetchone()
        return None if row is None else entry_of(row)

    def close(self) -> None:
        self._db.close()


#: By name: those in which a move is one piece of work.
SIMPLE: dict[str, Callable[[], Store]] = {"memory": MemoryStore, "sqlite": SQLiteStore}
#: Stores whose work is done by a thread of the process: paused and killed with it.
LOCAL = frozenset({"sqlite"})
