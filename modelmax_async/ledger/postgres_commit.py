"""One transaction over as many connections as it takes; the outcome of its commit is known.

If the connection breaks, or the task is cancelled, before the ``COMMIT``, the server undoes the
transaction, and it is made again. From then on it was made or not: the next read-back tells,
see `Writer`. If there is none in time, the callers get an error that says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from modelmax_async._errors import LedgerError
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.postgres_batch import Answer, AnyKey
from modelmax_async.ledger.postgres_errors import Fault, explain, fault
from modelmax_async.ledger.postgres_tables import Tables
from modelmax_async.ledger.postgres_transaction import Held, InDoubtError, transact
from modelmax_async.ledger.postgres_writer import Writer

#: Seconds before a transaction that met no server is made again, at first and at most.
PAUSE, LONGEST = 0.005, 0.25
_Answers = Sequence[Answer | Held]


class UnusableError(Exception):
    """The ledger cannot be used now, whatever the moves are."""

    def __init__(self, error: LedgerError) -> None:
        super().__init__()
        self.error = error


class Committer:
    """Makes transactions, one after another."""

    def __init__(self, writer: Writer, tables: Tables) -> None:
        self._writer = writer
        self._tables = tables
        self.where: str = writer.address.where

    async def commit(self, moves: Sequence[tuple[AnyKey, Move]], until: float) -> _Answers:
        """Make moves in one transaction, and return their answers once it is durable.

        Args:
            moves: the moves.
            until: when to make it again no more, by the loop's clock.

        Raises:
            UnusableError: if there was no usable connection in time.
            TimeoutError: if several moves took so long that fewer may have to do.
            Exception: of the server, which did not commit it.
        """
        doubt: InDoubtError | None = None
        slow, pause = False, 0.0
        while True:
            limit = asyncio.timeout(self._writer.address.timeout / 2)
            try:
                await asyncio.sleep(pause)
                async with limit, self._writer.lock:
                    await self._connect(doubt)
                    if doubt is not None and doubt.number == self._writer.number:
                        return doubt.answers
                    doubt = None
                    if slow:
                        break
                    return await transact(self._writer, self._tables, moves)
            except LedgerError as exc:
                self._writer.lose()
                raise UnusableError(exc) from None
            except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - handled by kind
                connected = self._writer.connection is not None
                error, doubt = self._broken(exc, doubt, expired=limit.expired())
                slow = slow or (limit.expired() and connected and len(moves) > 1)
            if slow and doubt is None:
                break
            pause = min(2 * pause or PAUSE, LONGEST)
            if asyncio.get_running_loop().time() + pause > until:
                raise UnusableError(explain(error, self.where, unknown=doubt is not None))
        raise TimeoutError

    async def _connect(self, doubt: InDoubtError | None) -> None:
        """Connect; what would fail again does so for all moves, not for one after another."""
        try:
            await self._writer.connect()
        except Exception as exc:
            if doubt is None and fault(exc) is Fault.FINAL:
                raise UnusableError(explain(exc, self.where)) from None
            if fault(exc) is Fault.BUSY:  # the tables are being upgraded
                raise TimeoutError(str(exc)) from None
            raise

    def _broken(
        self, error: BaseException, doubt: InDoubtError | None, *, expired: bool
    ) -> tuple[BaseException, InDoubtError | None]:
        """Give up the connection, and return the error and what is in doubt.

        Raises:
            Exception: the error, if the connection is as good as before.
        """
        if isinstance(error, InDoubtError):
            doubt = error
            error = doubt.error
        if isinstance(error, asyncio.CancelledError):
            # A program that cancels all of its tasks does not mean this one: callers wait.
            aborted = ConnectionAbortedError("the task of the ledger was cancelled")
            error = TimeoutError() if expired else aborted
        if doubt is None and fault(error) is not Fault.LOST:
            raise error
        self._writer.lose()
        return error, doubt
