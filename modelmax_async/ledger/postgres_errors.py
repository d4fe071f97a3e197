"""What an error of a PostgreSQL server, or of the network, means for a move and its caller."""

from __future__ import annotations

import asyncio
import enum

import asyncpg

from modelmax_async._errors import LedgerError
from modelmax_async._errors.sentences import clause
from modelmax_async.ledger.rows import UnreadableRowError


class Fault(enum.Enum):
    """What a failed transaction can do next."""

    LOST = enum.auto()
    """The connection is of no use any more: another one may work."""
    BUSY = enum.auto()
    """Another transaction is in the way: the same one may work later."""
    FINAL = enum.auto()
    """It would fail again."""


_LOST = (
    OSError,  # refused, reset, no route
    TimeoutError,
    asyncio.IncompleteReadError,
    asyncpg.InterfaceError,  # the connection is closed
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.ConnectionDoesNotExistError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby: after a fail-over, the next is not
    asyncpg.exceptions.TargetServerAttributeNotMatched,
    asyncpg.IdleInTransactionSessionTimeoutError,
)
_BUSY = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.exceptions.OutOfMemoryError,  # no room for its locks, until others end
)
#: What to do, by the class of the error; the first that fits.
_ADVICE: tuple[tuple[type[BaseException], str], ...] = (
    (
        asyncpg.LockNotAvailableError,
        "Another session holds a lock that it needs: find it in pg_locks, and end it",
    ),
    (asyncpg.exceptions.OutOfMemoryError, "Raise its max_locks_per_transaction"),
    (asyncpg.TooManyConnectionsError, "Raise its max_connections, or pass a lower pool_size"),
    (
        asyncpg.ReadOnlySQLTransactionError,
        (
            "It is read-only, as a standby is: use the address of the primary, or several "
            "hosts and target_session_attrs=read-write in the DSN"
        ),
    ),
    (
        asyncpg.exceptions.TargetServerAttributeNotMatched,
        "No host is a primary: call again after the fail-over, or correct the hosts in the DSN",
    ),
    (asyncpg.QueryCanceledError, "It did not answer in time: see what keeps the server busy"),
    (asyncpg.InvalidAuthorizationSpecificationError, "Check user and password in the DSN"),
    (asyncpg.InvalidCatalogNameError, "Create the database, or correct the DSN"),
    (
        asyncpg.InsufficientPrivilegeError,
        "Let the role create the schema and use its tables, or make the schema for it",
    ),
    (
        asyncpg.UndefinedTableError,
        "The schema was dropped or replaced while in use: create a new PostgresLedger",
    ),
    (
        asyncpg.InvalidSQLStatementNameError,
        "A pooler in between must pool sessions: set pool_mode = session in PgBouncer",
    ),
    (
        asyncpg.DuplicatePreparedStatementError,
        "A pooler in between must pool sessions: set pool_mode = session in PgBouncer",
    ),
    (asyncpg.CannotConnectNowError, "It is starting up or shutting down: call again later"),
    (TimeoutError, "It did not answer in time: check the server and the network"),
    (OSError, "Check that the server runs, and host and port in the DSN"),
    (asyncpg.PostgresConnectionError, "The connection broke: call again"),
)


def fault(error: BaseException) -> Fault:
    """Return what the transaction that failed with this error can do next."""
    if isinstance(error, _BUSY):
        return Fault.BUSY
    return Fault.LOST if isinstance(error, _LOST) else Fault.FINAL


def explain(error: BaseException, where: str, *, unknown: bool = False) -> LedgerError:
    """Return the `LedgerError` that says what happened to the ledger and what to do.

    Args:
        error: what asyncpg or the network raised.
        where: the ledger, without its password.
        unknown: whether the transaction may have been committed.
    """
    if isinstance(error, LedgerError):
        return error
    if isinstance(error, UnreadableRowError):
        return error.explained(where)
    # The further lines are hints of asyncpg, which are longer than our advice.
    text = clause(str(error).partition("\n")[0]).strip() or type(error).__name__
    advice = next((said for kind, said in _ADVICE if isinstance(error, kind)), "See the cause")
    effect = "The move may have taken effect" if unknown else "Nothing was recorded"
    made = LedgerError(f"the ledger {where} could not be used ({text}). {effect}. {advice}")
    # Its frames hold the DSN, and so does what it was raised from.
    error.__context__ = error.__cause__ = None
    made.__cause__ = error.with_traceback(None)
    return made
