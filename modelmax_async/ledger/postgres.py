"""The ledger in a PostgreSQL database, shared by any number of machines."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Collection
from hashlib import sha256
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

try:
    import asyncpg  # noqa: F401 - checked here, so that the error names the extra
except ImportError as _missing:
    raise ImportError(
        'PostgresLedger needs asyncpg: python -m pip install "modelmax-async[postgres]"'
    ) from _missing

from modelmax_async import _models as models
from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async._reprs import Unshown, always_shown
from modelmax_async._validators import is_integer, is_number
from modelmax_async.ledger.lists import Entries, add_entry, add_submission
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.postgres_address import Address
from modelmax_async.ledger.postgres_batch import Answer
from modelmax_async.ledger.postgres_changes import Changes
from modelmax_async.ledger.postgres_errors import explain
from modelmax_async.ledger.postgres_moves import Moves
from modelmax_async.ledger.postgres_pool import Pool
from modelmax_async.ledger.postgres_tables import Tables
from modelmax_async.ledger.postgres_writer import Identity
from modelmax_async.ledger.protocol import Key, SubmitKey

_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d{1,5})?")
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::double precision"
#: The rows of a list that are fetched at once, so that a long one does not block the loop.
_ROWS = 500
#: The most connections.
_MOST = 1000
#: The longest timeout in seconds: PostgreSQL counts milliseconds in 32 bits.
_LONGEST = 2**31 // 1000


class _Parts:
    """The connections of one event loop, and what works with them."""

    def __init__(self, address: Address, size: int, identity: Identity) -> None:
        self.pool = Pool(address, size, identity)
        self.tables = Tables(address.schema)
        self.moves = Moves(self.pool.writer, self.tables)
        self.changes = Changes(address)

    async def aclose(self) -> None:
        await self.moves.drain()
        await self.changes.aclose()
        await self.pool.aclose()


@always_shown
class PostgresLedger:
    """The ledger for many machines: the tables of one schema of a PostgreSQL database.

    Every move is a transaction that is on the server's disk before it takes effect; concurrent
    moves share one. The clock is the server's. The tables are made at the first use. They hold
    request ids and paid responses, never the API key. Clients that wait are told at once of a
    result that another process has stored. It survives a restart and a fail-over of the
    server: a move is made again over a new connection until ``timeout``, and a commit without
    an answer is looked up.

    A pooler in between must pool sessions (``pool_mode = session`` in PgBouncer).

    Args:
        dsn: the address, such as ``"postgresql://user:password@host:5432/database"``.
        schema: the schema with the tables, which is made if it does not exist. Clients share
            what they record if they use the same schema.
        pool_size: the most connections, besides the one that listens for changes.
        timeout: seconds that a move may take, connecting again included.

    Raises:
        ValueError: for an argument that cannot be used.
        ImportError: without the extra ``postgres``.
    """

    def __init__(
        self, dsn: str, *, schema: str = "modelmax", pool_size: int = 4, timeout: float = 10.0
    ) -> None:
        dsn = Unshown(dsn) if isinstance(dsn, str) else dsn  # it may have a password
        if not isinstance(schema, str) or not _SCHEMA.fullmatch(schema):
            raise ValueError(
                "schema must be a name of at most 48 letters, digits and underscores, "
                f"got {schema!r:.100}"
            )
        if not is_integer(pool_size, 1, _MOST):
            raise ValueError(
                f"pool_size must be an integer from 1 to {_MOST}, got {pool_size!r}"
            )
        if not is_number(timeout) or not 0 < timeout <= _LONGEST:
            raise ValueError(
                f"timeout must be a number of seconds above 0 and at most {_LONGEST}, "
                f"got {timeout!r}"
            )
        self._address = Address(dsn, _where(dsn, schema), schema, timeout)
        self._size = pool_size
        self._pid = os.getpid()
        self._inherited: dict[asyncio.AbstractEventLoop, _Parts] = {}
        self._loops: dict[asyncio.AbstractEventLoop, _Parts] = {}
        self._lock = Lock()  # loops may run in several threads
        #: Of loops that are closed: the next loop goes on from what is known there.
        self._left: list[Identity] = []

    def __repr__(self) -> str:
        return f"<PostgresLedger: {self._address.where}>"

    async def apply(self, key: Key | SubmitKey, move: Move) -> Answer:
        """Take one `step` in a transaction that is durable on return, see `Ledger.apply`."""
        return await self._parts().moves.apply(key, move)

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, see `Ledger.entries`."""
        parts, wanted = self._parts(), frozenset(states)
        few = wanted <= models.UNFINISHED
        query = parts.tables.list_unfinished if few else parts.tables.list
        try:
            # One snapshot, so that a job is not missed as it goes from one list to the other.
            async with (
                parts.pool.reader() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                now = await connection.fetchval(_CLOCK)
                found = Entries()
                async for row in connection.cursor(query, origin, prefetch=_ROWS):
                    add_entry(found, row, now, wanted)
                submitted = parts.tables.list_submitted
                if "known" in wanted:
                    async for row in connection.cursor(submitted, origin, prefetch=_ROWS):
                        add_submission(found, row)
                return found
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the ledger's
            failure = explain(exc, self._address.where)
        raise failure

    async def load_durations(self, origin: str, version: int) -> dict[str, bytes]:
        """Return the records of an origin by model, see `KeepsDurations`."""
        parts = self._parts()
        try:
            async with parts.pool.reader() as connection:
                rows = await connection.fetch(parts.tables.load_durations, origin, version)
                return dict(map(tuple, rows))
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the ledger's
            failure = explain(exc, self._address.where)
        raise failure

    async def add_durations(
        self, origin: str, model: str, version: int, add: Callable[[bytes | None], bytes]
    ) -> bytes:
        """Add to one record in a transaction, see `KeepsDurations`."""
        parts = self._parts()
        key = sha256("\n".join((origin, model, str(version))).encode()).digest()
        try:
            async with parts.pool.reader() as connection, connection.transaction():
                # One call at a time: a record that is not there yet has no row to lock.
                lock = int.from_bytes(key[:8], signed=True)
                await connection.execute("SELECT pg_advisory_xact_lock($1)", lock)
                old = await connection.fetchval(parts.tables.read_durations, key)
                record = add(old)
                values = (key, origin, model, version, record)
                await connection.execute(parts.tables.write_durations, *values)
                return record
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the ledger's
            failure = explain(exc, self._address.where)
        raise failure

    def changed(self, key: Key) -> asyncio.Future[None]:
        """Return a future that is done once another client may have ended a job's attempt.

        Cancel it if nobody waits any more. See `NotifiesChanges`.
        """
        return self._parts().changes.of(key)

    async def aclose(self) -> None:
        """Finish the moves under way and close the connections. The next use opens others."""
        await self._parts().aclose()

    def _parts(self) -> _Parts:
        """Return the connections of the running loop."""
        if self._pid != os.getpid():  # a fork: the connections belong to the parent
            # They are kept, so that they are not closed here.
            self._inherited, self._pid, self._loops = self._loops, os.getpid(), {}
            self._lock, self._left = Lock(), []
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._loops:
                for each in [each for each in self._loops if each.is_closed()]:
                    self._left.append(self._loops.pop(each).pool.writer.identity)
                identity = self._left.pop() if self._left else Identity()
                self._loops[loop] = _Parts(self._address, self._size, identity)
            return self._loops[loop]


def _where(dsn: Any, schema: str) -> str:
    """Return what messages call the ledger: never the user's password."""
    place = _place(dsn)
    if place is None:
        raise ValueError(
            "dsn must be the address of a PostgreSQL database, such as "
            "'postgresql://user:password@host:5432/database', with special characters of the "
            "password percent-encoded"
        )
    return f"{schema} in {place}"


def _place(dsn: Any) -> str | None:
    """Return the database and the hosts of an address, ``None`` if it is unusable."""
    try:
        parts = urlsplit(dsn)
        # An unencoded "/", "?" or "#" in a password would end up in the rest.
        hosts, rest = parts.netloc.rpartition("@")[2], f"{parts.path}{parts.query}"
        hidden = "@" not in rest and not parts.fragment
        valid = parts.scheme in {"postgresql", "postgres"} and hidden
        if not (valid and all(map(_HOST.fullmatch, hosts.split(",")))):
            return None
    except (TypeError, ValueError, AttributeError):
        return None
    database = parts.path.lstrip("/") or "the user's database"
    return f"{database} on {hosts or 'the local server'}"
