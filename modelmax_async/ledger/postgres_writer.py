"""The connection that makes the moves, and the fence that keeps lost ones from committing.

Each writer owns a row of the table ``writers``: its id, the number of its last transaction and
an epoch. A transaction that changes anything writes the next number, and fails unless the row
has the number and the epoch that the writer knows. What is true if the connection breaks, or
the task is cancelled, at each await:

1. connecting, ending older sessions: nothing is recorded. An older session that lives on keeps
   its row locks until the server ends it, and nothing else.
2. reading back: the row has the new epoch or not. The next attempt writes a higher one, and if
   this one arrives late, it changes nothing. Once the answer is there, no transaction of an
   older connection can commit any more: the number tells for good which commits were made.
3. ``BEGIN``, reading, locking, writing: the server undoes it.
4. the number and ``COMMIT``, one message: it is in doubt until the next read-back. If it
   arrives later than that, its epoch is too old and it fails.
"""

from __future__ import annotations

import contextlib
import uuid
from asyncio import Lock
from typing import Any

import asyncpg
import attrs

from modelmax_async._errors import LedgerError, fresh
from modelmax_async._runtime.clock import boottime
from modelmax_async.ledger.postgres_address import Address

#: Ends what is left of this writer's lost connections, so that it does not keep its locks. Only
#: they have its name. The login role may do that, a role that was set for it may not.
_END = """BEGIN; SET LOCAL ROLE NONE;
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = '{name}' AND pid <> pg_backend_pid(); END"""
_BACKEND = "number, pg_backend_pid(), set_config('application_name', '{name}', false)"
_FIRST = """
INSERT INTO {table} AS there (id, number, epoch) VALUES ($1, 0, $2)
ON CONFLICT (id) DO UPDATE SET epoch = excluded.epoch WHERE there.epoch < excluded.epoch
RETURNING """
#: It waits until a transaction in doubt has ended, one way or the other.
_AGAIN = """
UPDATE {table} SET epoch = $2, since = now() WHERE id = $1 AND epoch < $2
RETURNING """
#: It fails, by a division by zero, unless it finds the row as the writer left it.
_MARK = """
WITH made AS (UPDATE {table} SET number = {next}, since = now()
WHERE id = '{id}' AND number = {number} AND epoch = {epoch} RETURNING 1)
SELECT 1 / count(*) FROM made"""
#: Removes the rows of processes that ended long ago. One that runs connects once a day, so that
#: its row stays; if it was asleep for nearly as long, it begins a new one.
_SWEEP = "DELETE FROM {table} WHERE since < now() - interval '90 days'"
_DAY = 86_400.0
_KEPT = 89 * _DAY


@attrs.define(eq=False)
class Identity:
    """What is known of a writer's row. It outlives connections, and an event loop.

    Attributes:
        id: the id of the row.
        number: the number of the last transaction that is known to be committed.
        epoch: that of the last read-back that was sent.
        known: whether the row is known to be there.
        seen: when that was seen last, by `boottime`.
        lost: the error of a server that has lost what it had committed. It is final.
    """

    id: uuid.UUID = attrs.field(factory=uuid.uuid4)
    number: int = 0
    epoch: int = 0
    known: bool = False
    seen: float = 0.0
    lost: LedgerError | None = None

    def begin(self) -> None:
        """Begin a row that was never there."""
        self.id, self.number, self.epoch, self.known = uuid.uuid4(), 0, 0, False


class Writer:
    """The connection that makes the moves of one event loop."""

    def __init__(self, address: Address, identity: Identity | None = None) -> None:
        self.address = address
        self.identity: Identity = Identity() if identity is None else identity
        self.lock: Lock = Lock()
        self.connection: Any = None
        self.pid: int = 0
        self._table = f'"{address.schema}".writers'

    @property
    def number(self) -> int:
        """The number of the last transaction that is known to be committed."""
        return self.identity.number

    async def connect(self) -> None:
        """Connect, unless that is done; read back which commit was the last one.

        Raises:
            Exception: of asyncpg or the network.
            LedgerError: if the server has lost transactions that were committed.
        """
        if self.identity.lost is not None:
            raise fresh(self.identity.lost)
        silent = boottime() - self.identity.seen
        if self.connection is not None and not self.connection.is_closed() and silent < _DAY:
            return
        self.lose()
        if self.identity.known and silent > _KEPT:
            self.identity.begin()
        connection = await self.address.connect()
        try:
            if self.identity.epoch:
                await self._end_others(connection)
            await self._read_back(connection)
        except BaseException:
            connection.terminate()
            raise
        self.connection = connection

    async def _end_others(self, connection: Any) -> None:
        try:
            await connection.execute(_END.format(name=_name(self.identity)))
        except asyncpg.PostgresError:  # not allowed: their locks stay until they time out
            await connection.execute("ROLLBACK")

    async def _read_back(self, connection: Any) -> None:
        mine = self.identity
        mine.epoch += 1
        query = (_AGAIN if mine.known else _FIRST) + _BACKEND
        query = query.format(table=self._table, name=_name(mine))
        try:
            row = await connection.fetchrow(query, mine.id, mine.epoch)
        except asyncpg.LockNotAvailableError:
            raise TimeoutError("a transaction in doubt has not ended") from None
        if row is None or row[0] < mine.number:
            raise self.lost()
        if not mine.known:
            await connection.execute(_SWEEP.format(table=self._table))
        mine.number, self.pid = row[:2]
        mine.known, mine.seen = True, boottime()

    def lost(self) -> LedgerError:
        """Return the error of a server that has lost transactions. No move works after it."""
        self.lose()
        self.identity.lost = LedgerError(
            f"the ledger {self.address.where} has lost transactions that it had committed: "
            "its tables were replaced or emptied, it was restored from a backup, or it failed "
            "over to a standby that was behind. Jobs that were paid for may look unpaid. No "
            "billed call was made: compare with your account's usage, then create a new "
            "PostgresLedger and a new client"
        )
        return fresh(self.identity.lost)

    def mark(self) -> str:
        """Return the statement by which the transaction under way writes the next number."""
        mine = self.identity
        numbers = {"number": mine.number, "next": mine.number + 1, "epoch": mine.epoch}
        return _MARK.format(table=self._table, id=mine.id, **numbers)

    def committed(self, number: int) -> None:
        """Note that the transaction with this number is committed."""
        self.identity.number = number

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


def _name(identity: Identity) -> str:
    return f"modelmax {identity.id}"
