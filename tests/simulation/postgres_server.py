"""A PostgreSQL server of the simulation: committed rows, transactions, and the locks they hold.

It knows the statements of the ledger by their text. What is here takes no time but that of
locks and of the disk; networks, pauses and crashes are those of `simulation.postgres_network`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg
from attrs import evolve

from modelmax_async import LedgerEntry
from modelmax_async.ledger import Key
from modelmax_async.ledger import postgres_transaction as transaction
from modelmax_async.ledger.attempts import observed
from modelmax_async.ledger.columns import entry_of, submission_of
from modelmax_async.ledger.postgres_batch import AnyKey
from modelmax_async.ledger.postgres_tables import Tables, digest
from modelmax_async.ledger.submissions import as_known
from simulation.postgres_rows import Execute, Rows, Session
from simulation.processes import EPOCH
from simulation.stores import Add, States

if TYPE_CHECKING:
    from simulation.postgres_handle import Made

SCHEMA = "modelmax"
#: Seconds for which a transaction may be idle.
IDLE = 10.0
_MARK = re.compile(
    r"SET number = (\d+),.*WHERE id = '([^']+)'(?: AND number = (\d+) AND epoch = (\d+))?",
    re.DOTALL,
)
_NAME = re.compile(r"'(modelmax [^']+)'")


class PostgresStore:
    """The server that all processes share."""

    def __init__(self) -> None:
        self._rows = Rows()
        self.sessions: list[Session] = []
        self.down_until = 0.0
        #: Whether a writer's role may end its own sessions: not if it was set for the login.
        self.may_end = True
        self._pids = 0
        self._durations: dict[tuple[str, str, int], bytes] = {}
        self._known: dict[str, Execute] = {
            "BEGIN": self._begin,
            transaction._CLOCK: self._clock,
        }
        tables = Tables(SCHEMA)
        kinds = (("entries", tables._entries), ("submissions", tables._submissions))
        for name, statements in kinds:
            for text in ("read", "lock", "add", "change", "delete"):
                self._known[getattr(statements, text)] = getattr(self._rows, text)(name)

    # -- what a store of the simulation offers ---------------------------------------------

    def entries(self, origin: str, states: States) -> list[LedgerEntry]:
        rows = list(self._rows.committed.items())
        jobs = {row[1]: entry_of(kept) for row, kept in rows if row[0] == "entries"}
        found = [observed(entry, self.now()) for entry in jobs.values()]
        for row, kept in rows:
            made = as_known(submission_of(kept[:-1])) if row[0] == "submissions" else None
            there = jobs.get(kept[-1])
            if made is not None and (there is None or _unheard(there)):
                found.append(made)
        return [evolve(entry, body=None) for entry in found if entry.state in states]

    def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        kept = self._durations.items()
        return {m: record for (o, m, v), record in kept if (o, v) == (origin, version)}

    def add_durations(self, origin: str, model: str, version: int, add: Add) -> bytes:
        key = origin, model, version
        record = self._durations[key] = add(self._durations.get(key))
        return record

    def peek(self, key: Key) -> LedgerEntry | None:
        row = self._rows.committed.get(("entries", digest(key)))
        return None if row is None else entry_of(row)

    def close(self) -> None:
        pass

    # -- sessions --------------------------------------------------------------------------

    def now(self) -> float:
        """Return the server's time, which is right."""
        return EPOCH + asyncio.get_running_loop().time()

    def connect(self) -> Session:
        """Begin a session."""
        self._pids += 1
        session = Session(self._pids)
        self.sessions.append(session)
        return session

    def end(self, session: Session) -> None:
        """End a session: its transaction is undone, unless it is past that point."""
        if session.commit is not None:
            session.ending = True
        elif not session.ended:
            session.ended = True
            self.sessions.remove(session)
            self._rows.release(session)

    def restart(self, seconds: float, *, kept: Callable[[], bool]) -> None:
        """End all sessions, and take no new one for a while.

        Args:
            seconds: how long.
            kept: says of a commit on its way to the disk whether it got there.
        """
        self.down_until = self.now() + seconds
        for session in list(self.sessions):
            if session.commit is not None and kept():
                session.commit()
            session.commit = None
            self.end(session)

    def _tell(self, made: Iterable[Made]) -> None:
        """Tell of the moves of a transaction that becomes true now."""
        records: dict[AnyKey, Any] = {}
        for each in made:
            key, done = each.key, each.answer
            if key not in records:
                records[key] = self._record(key)
            each.tell(each, records[key])
            if done is not None:
                records[key] = None if done.deleted else done.entry

    def _record(self, key: AnyKey) -> Any:
        if isinstance(key, Key):
            return self.peek(key)
        kept = self._rows.committed.get(("submissions", digest(key)))
        return None if kept is None else submission_of(kept[:-1])

    async def execute(
        self, session: Session, query: str, args: Sequence[Any], made: Iterable[Made]
    ) -> Any:
        """Execute a statement of the ledger.

        Args:
            session: the session.
            query: the statement.
            args: its arguments.
            made: the moves that a transaction which ends here was about.

        Raises:
            asyncpg.PostgresError: of the statement, or because the session was ended.
        """
        if query == "ROLLBACK":
            if not session.aborted and not session.writes:
                self._tell(made)  # of what changes nothing
            self._rows.release(session)
            return None
        if session.aborted:
            raise asyncpg.InFailedSQLTransactionError("the transaction is aborted")
        try:
            done = await self._do(session, query, args, made)
        except asyncpg.PostgresError:
            session.aborted = session.open
            raise
        return done

    async def _do(
        self, session: Session, query: str, args: Sequence[Any], made: Iterable[Made]
    ) -> Any:
        if query.endswith("COMMIT"):
            return await self._commit(session, query, made)
        if query in self._known:
            return await self._known[query](session, args)
        if "pg_terminate_backend" in query:
            return self._terminate(session, _named(query))
        if not args:
            assert query.startswith("DELETE"), query
            return None  # of writers that are older than any world
        return await self._read_back(session, query, *args)

    async def _read_back(
        self, session: Session, query: str, writer: Any, epoch: int
    ) -> tuple[int, int] | None:
        """Give the row of a writer a higher epoch, and return its number."""
        assert "epoch < " in query, query
        row = "writers", str(writer)
        await self._rows.free(session, row)
        if query.lstrip().startswith("INSERT"):
            self._rows.committed.setdefault(row, (0, 0))
        number, there = self._rows.committed.get(row, (0, epoch))
        if there >= epoch:
            return None
        self._rows.committed[row] = number, epoch
        session.name = _named(query)
        return number, session.pid

    async def _begin(self, session: Session, _: Sequence[Any]) -> None:
        session.open = True

    async def _clock(self, session: Session, _: Sequence[Any]) -> tuple[float, int]:
        return self.now(), session.pid

    def _terminate(self, session: Session, name: str) -> None:
        """End the other sessions of a writer, if the role may do that."""
        others = [each for each in self.sessions if each.name == name and each is not session]
        if others and not self.may_end:
            session.open = True  # in a transaction that has failed
            raise asyncpg.InsufficientPrivilegeError("permission denied to terminate process")
        for each in others:
            self.end(each)

    async def _commit(self, session: Session, query: str, made: Iterable[Made]) -> None:
        mark = _MARK.search(query)
        assert mark is not None
        assert session.open
        number, writer = int(mark[1]), ("writers", mark[2])
        await self._rows.hold(session, writer)
        found, epoch = self._rows.committed[writer]
        if mark[3] is not None and (found, epoch) != (int(mark[3]), int(mark[4])):
            raise asyncpg.DivisionByZeroError("division by zero")

        def commit() -> None:
            self._tell(each for each in made if digest(each.key) not in session.lost)
            session.writes[writer] = number, epoch
            self._rows.write(session)
            session.commit = None
            self._rows.release(session)

        session.commit = commit
        await asyncio.sleep(session.flush)
        if session.ended:
            raise asyncpg.CrashShutdownError("the server was restarted")
        commit()
        if session.ending:
            self.end(session)


def _named(query: str) -> str:
    name = _NAME.search(query)
    assert name is not None
    return name[1]


def _unheard(entry: LedgerEntry) -> bool:
    return entry.state == "known" and not entry.acknowledged
