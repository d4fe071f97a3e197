"""One transaction of a PostgreSQL ledger: read and lock, decide, write, commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import asyncpg
import attrs

from modelmax_async._errors import LedgerError
from modelmax_async.ledger.moves import Look, Move
from modelmax_async.ledger.postgres_batch import Answer, AnyKey, Found, Record, decide
from modelmax_async.ledger.postgres_tables import Tables, digest
from modelmax_async.ledger.postgres_writer import Writer
from modelmax_async.ledger.protocol import Key, SubmitKey

_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::double precision, pg_backend_pid()"
#: The most digests in a notification, whose payload may have 8,000 bytes.
_DIGESTS = 200


@attrs.frozen
class Held:
    """The answer to a move whose row another transaction holds: it was not made."""


@attrs.frozen
class InDoubtError(Exception):
    """A commit got no answer.

    Attributes:
        number: the number of the transaction.
        answers: the answers to its moves, if it was committed.
        error: what broke.
    """

    number: int
    answers: Sequence[Answer | Held]
    error: BaseException


def topic(key: AnyKey) -> str:
    """Return what a notification says of a key."""
    return digest(key)[:16].hex()


async def transact(
    writer: Writer, tables: Tables, moves: Sequence[tuple[AnyKey, Move]]
) -> list[Answer | Held]:
    """Make moves in one transaction.

    Raises:
        InDoubtError: if the commit got no answer.
        LedgerError: if the row of the writer is not as it left it.
        Exception: of asyncpg or the network; then nothing was committed.
    """
    connection = writer.connection
    await connection.execute("BEGIN")
    try:
        found = await _read(writer, tables, moves)
        free = [(key, move) for key, move in moves if key not in found.busy]
        answers, changes = decide(found, free)
        lost = await tables.write(connection, changes) if changes else set()
    except Exception:
        await _roll_back(writer)
        raise
    given = iter(answers)
    made: list[Answer | Held] = [
        answer if key not in lost else Held()
        for key, answer in (
            (key, Held() if key in found.busy else next(given)) for key, _ in moves
        )
    ]
    if not changes:
        await connection.execute("ROLLBACK")
        return made
    number = writer.number + 1
    notices = _notices(writer.address.schema, (k for k in changes.ended if k not in lost))
    try:
        await connection.execute(f"{writer.mark()}; {notices} COMMIT")
    except asyncpg.DivisionByZeroError:
        raise writer.lost() from None
    except BaseException as exc:  # noqa: BLE001 - a cancelled commit is in doubt too
        raise InDoubtError(number, made, exc) from None
    writer.committed(number)
    return made


async def _roll_back(writer: Writer) -> None:
    try:
        await writer.connection.execute("ROLLBACK")
    except Exception:  # noqa: BLE001 - the server does it once the connection is closed
        writer.lose()


async def _read(writer: Writer, tables: Tables, moves: Sequence[tuple[AnyKey, Move]]) -> Found:
    """Read the records of the keys, and lock them unless the moves only look at them."""
    now, pid = await writer.connection.fetchrow(_CLOCK)
    if pid != writer.pid:
        raise LedgerError(
            f"the ledger {writer.address.where} is behind a pooler that gives each transaction "
            "another connection. Nothing was recorded: make it pool sessions (pool_mode = "
            "session in PgBouncer), or connect to the server directly"
        )
    records: dict[AnyKey, Record] = {}
    busy: set[AnyKey] = set()
    looks = all(isinstance(move, Look) for _, move in moves)
    for kind in (Key, SubmitKey):
        mine = {digest(key): key for key, _ in moves if isinstance(key, kind)}
        if not mine:
            continue
        statements = tables.of(next(iter(mine.values())))
        query = statements.read if looks else statements.lock
        for row in await writer.connection.fetch(query, list(mine)):
            key = mine[row[0]]
            if row[1]:
                busy.add(key)
            else:
                records[key] = tables.record(key, row)
    return Found(now, records, frozenset(busy))


def _notices(schema: str, keys: Iterable[AnyKey]) -> str:
    """Return the statements that tell other clients of the keys."""
    topics = [topic(key) for key in keys]
    parts = (topics[at : at + _DIGESTS] for at in range(0, len(topics), _DIGESTS))
    return "".join(
        f"SELECT pg_notify('{channel(schema)}', '{','.join(part)}');" for part in parts
    )


def channel(schema: str) -> str:
    """Return the name of the channel on which changes are told."""
    return f"{schema}_changes"
