"""The rows of the simulated PostgreSQL server, the locks on them, and who holds those."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import attrs

from modelmax_async.ledger import postgres_address as address

#: Seconds that a statement waits for a lock, as the ledger's connections set it.
_LOCK = address._LOCK / 1000
#: A table's name, and what identifies a row there.
Row = tuple[str, Any]
#: What executes a statement of a session with its arguments.
Execute = Callable[["Session", Sequence[Any]], Any]


@attrs.define(eq=False)
class Session:
    """The server's side of one connection."""

    pid: int
    #: What the writer calls it.
    name: str = ""
    open: bool = False
    aborted: bool = False
    ended: bool = False
    #: Whether it ends as soon as its commit is through.
    ending: bool = False
    #: What its commit does once it is on the disk: only a crash comes in between.
    commit: Callable[[], None] | None = None
    writes: dict[Row, tuple[Any, ...] | None] = attrs.field(factory=dict)
    lost: set[bytes] = attrs.field(factory=set)
    #: Seconds that the next commit takes to reach the disk.
    flush: float = 0.0
    uses: int = 0


class Rows:
    """What is committed, and which transaction holds which row."""

    def __init__(self) -> None:
        self.committed: dict[Row, tuple[Any, ...]] = {}
        self._locks: dict[Row, Session] = {}
        self._released = asyncio.Event()

    def write(self, session: Session) -> None:
        """Make true what a transaction has written."""
        for row, kept in session.writes.items():
            if kept is None:
                self.committed.pop(row, None)
            else:
                self.committed[row] = kept

    def release(self, session: Session) -> None:
        """End a session's transaction: its rows are free."""
        session.open = session.aborted = False
        session.writes.clear()
        session.lost.clear()
        for row in [row for row, holder in self._locks.items() if holder is session]:
            del self._locks[row]
        self._released.set()
        self._released = asyncio.Event()

    async def free(self, session: Session, row: Row) -> None:
        """Wait until no other transaction holds a row."""
        try:
            async with asyncio.timeout(_LOCK):
                while self._locks.get(row, session) is not session:
                    await self._released.wait()
        except TimeoutError:
            raise asyncpg.LockNotAvailableError("canceling statement: lock timeout") from None
        if session.ended:
            raise asyncpg.AdminShutdownError("terminating connection")

    async def hold(self, session: Session, row: Row) -> None:
        """Wait for a row, and hold it until the transaction ends."""
        await self.free(session, row)
        self._locks[row] = session

    def read(self, table: str, *, lock: bool = False) -> Execute:
        """Return what reads the rows of a table, and perhaps locks those that are free."""

        async def read(session: Session, args: Sequence[Any]) -> list[tuple[Any, ...]]:
            found: list[tuple[Any, ...]] = []
            for each in args[0]:
                row = table, each
                if row not in self.committed:
                    continue
                kept = self.committed[row]
                busy = lock and self._locks.get(row, session) is not session
                found.append((each, busy, *((None,) * len(kept) if busy else kept)))
                if lock and not busy:
                    self._locks[row] = session
            return found

        return read

    def lock(self, table: str) -> Execute:
        """Return what reads and locks them."""
        return self.read(table, lock=True)

    def add(self, table: str) -> Execute:
        """Return what adds rows that nobody else has added."""

        async def add(session: Session, args: Sequence[Any]) -> list[tuple[bytes]]:
            added: list[tuple[bytes]] = []
            for each, _origin, *columns in zip(*args, strict=True):
                row = table, each
                # perhaps another is about to add it
                held = self._locks.get(row, session) is not session
                if held or row in self.committed:
                    session.lost.add(each)
                    continue
                self._locks[row] = session
                session.writes[row] = tuple(columns)
                added.append((each,))
            return added

        return add

    def change(self, table: str) -> Execute:
        """Return what replaces rows."""

        async def change(session: Session, args: Sequence[Any]) -> None:
            for each, *columns, same in zip(*args, strict=True):
                row = table, each
                await self.hold(session, row)
                if row in self.committed:
                    assert not same or columns[-1] is None or table != "entries"
                    if same and table == "entries":
                        columns[-1] = self.committed[row][-1]
                    session.writes[row] = tuple(columns)

        return change

    def delete(self, table: str) -> Execute:
        """Return what deletes rows."""

        async def delete(session: Session, args: Sequence[Any]) -> None:
            for each in args[0]:
                row = table, each
                await self.hold(session, row)
                session.writes[row] = None

        return delete
