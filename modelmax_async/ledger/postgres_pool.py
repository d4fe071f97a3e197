"""The connections of a PostgreSQL ledger, and what the one that writes last committed."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import attrs

from modelmax_async._errors import LedgerError
from modelmax_async.ledger.postgres_schema import prepare

#: Milliseconds that a statement waits for a lock.
_LOCK = 500
_SETTINGS = """
SELECT set_config('lock_timeout', $1, false), set_config('statement_timeout', $2, false),
  set_config('idle_in_transaction_session_timeout', $2, false),
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'on', false) END
"""
_BACKEND = """
SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
#: Ends what is left of a lost connection, so that it does not keep its locks.
_END = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2
"""
#: Removes the rows of processes that ended long ago.
_SWEEP = "DELETE FROM {table} WHERE since < now() - interval '90 days'"


@attrs.frozen(repr=False)
class Address:
    """Where the server is. The DSN, which may hold a password, is shown nowhere."""

    dsn: str
    where: str
    schema: str
    timeout: float

    async def connect(self) -> Any:
        """Return a new connection with the settings of a ledger."""
        connection = await asyncpg.connect(self.dsn, timeout=self.timeout / 2)
        try:
            limit = f"{self.timeout * 1000:.0f}ms"
            await connection.fetchrow(_SETTINGS, f"{_LOCK}ms", limit)
            await prepare(connection, self.schema)
        except BaseException:
            connection.terminate()
            raise
        return connection


class Writer:
    """The connection that makes the moves, and the number of its last transaction.

    The number is a row of the ledger, which each transaction that changes anything writes. If
    a commit gets no answer, that row tells whether it was made.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.lock: asyncio.Lock = asyncio.Lock()
        #: The last number that is known to be committed.
        self.number: int = 0
        self.connection: Any = None
        self.pid: int = 0
        self._id = uuid.uuid4()
        self._table = f'"{address.schema}".writers'
        self._backend: tuple[Any, ...] = ()

    async def connect(self) -> None:
        """Connect, unless that is done; read back which commit was the last one.

        Raises:
            Exception: of asyncpg or the network.
            LedgerError: if the server has lost transactions that were committed.
        """
        if self.connection is not None and not self.connection.is_closed():
            return
        connection = await self.address.connect()
        try:
            if self._backend:
                await connection.fetch(_END, *self._backend)
            await self._read_back(connection)
            self._backend = tuple(await connection.fetchrow(_BACKEND))
        except BaseException:
            connection.terminate()
            raise
        self.connection, self.pid = connection, self._backend[0]

    async def _read_back(self, connection: Any) -> None:
        if not self._backend:
            query = (
                f"INSERT INTO {self._table} (id, number) VALUES ($1, 0) ON CONFLICT DO NOTHING"  # noqa: S608 - checked
            )
            await connection.execute(query, self._id)
            await connection.execute(_SWEEP.format(table=self._table))
            return
        # The lock waits until the transaction in doubt has ended, one way or the other.
        query = f"SELECT number FROM {self._table} WHERE id = $1 FOR UPDATE"  # noqa: S608 - checked
        number = await connection.fetchval(query, self._id)
        if number is None or number < self.number:
            raise LedgerError(
                f"the ledger {self.address.where} has lost transactions that it had committed: "
                "it was restored from a backup, or failed over to a standby that was behind. "
                "Jobs that were paid for may look unpaid. No billed call was made: compare "
                "with your account's usage, then create a new PostgresLedger and a new client"
            )
        self.number = number

    def mark(self) -> str:
        """Return the statement by which the transaction under way writes the next number."""
        changes = f"number = {self.number + 1}, since = now()"
        return f"UPDATE {self._table} SET {changes} WHERE id = '{self._id}'"  # noqa: S608 - checked

    def lose(self) -> None:
        """Give up the connection, whatever is under way there."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close(timeout=self.address.timeout / 2)


class Pool:
    """The writer, and ``size - 1`` connections for everything else; with one, it does both."""

    def __init__(self, address: Address, size: int) -> None:
        self.address = address
        self.writer: Writer = Writer(address)
        self._size = size
        self._lent = asyncio.Semaphore(max(1, size - 1))
        self._idle: list[Any] = []

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[Any]:
        """Lend a connection that works, as far as is known."""
        if self._size == 1:
            async with self.writer.lock:
                await self.writer.connect()
                yield self.writer.connection
            return
        async with self._lent:
            while self._idle and self._idle[-1].is_closed():
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await self.address.connect()
            try:
                yield connection
            except BaseException:
                connection.terminate()
                raise
            self._idle.append(connection)

    async def aclose(self) -> None:
        """Close the connections that are not lent."""
        idle, self._idle = self._idle, []
        for connection in idle:
            with contextlib.suppress(Exception):
                await connection.close(timeout=self.address.timeout / 2)
        async with self.writer.lock:
            await self.writer.aclose()
