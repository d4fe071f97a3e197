"""Moves that arrive together share a transaction; the outcome of each commit is known.

One transaction, and what is true if the connection breaks, or the task is cancelled, at each of
its awaits:

1. connecting, ``BEGIN``, reading and locking, writing: the server undoes it. It is made again.
2. ``COMMIT``: it was made or not. The number of the writer, read back over a new connection,
   tells which. If it cannot be read in time, the callers get an error that says so.

A row that another transaction holds is left out, and its moves are made a little later, so
that it delays no other. If a transaction fails for another reason, each of its moves is made in
one of its own, so that it fails alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import asyncpg
import attrs

from modelmax_async._errors import LedgerError, fresh
from modelmax_async.ledger.moves import Move, Store
from modelmax_async.ledger.postgres_batch import Answer, AnyKey
from modelmax_async.ledger.postgres_errors import Fault, explain, fault
from modelmax_async.ledger.postgres_tables import Tables
from modelmax_async.ledger.postgres_transaction import Held, InDoubtError, transact
from modelmax_async.ledger.postgres_writer import Writer

#: The most moves in one transaction, and the bytes of bodies from which on no more are added.
_BATCH, _BYTES = 512, 16 * 2**20
#: Seconds before what met a lock or no server is tried again, at first and at most.
_PAUSE, _LONGEST = 0.005, 0.25


@attrs.define(eq=False)
class Piece:
    """A move on its way into a transaction. It fails at ``until``, by the loop's clock."""

    key: AnyKey
    move: Move
    until: float
    done: asyncio.Future[Answer]
    pause: float = _PAUSE


class Moves:
    """Makes moves, in transactions that run one after another."""

    def __init__(self, writer: Writer, tables: Tables) -> None:
        self._writer = writer
        self._tables = tables
        self._timeout = writer.address.timeout
        self._queue: deque[Piece] = deque()
        self._open = 0
        self._ended = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def apply(self, key: AnyKey, move: Move) -> Answer:
        """Return the answer to a move, once it is durable. Cancelled, it is still made.

        Raises:
            LedgerError: if it failed, or could not be made durable in time.
        """
        loop = asyncio.get_running_loop()
        piece = Piece(key, move, loop.time() + self._timeout, loop.create_future())
        self._open += 1
        self._put(piece)
        return await piece.done

    async def drain(self) -> None:
        """Wait until the moves under way have ended."""
        while self._open:
            self._ended.clear()
            await self._ended.wait()

    def _put(self, piece: Piece) -> None:
        self._queue.append(piece)
        self._start()

    def _start(self) -> None:
        if self._task is None and self._queue:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._stopped)

    def _stopped(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self._start()  # a task that is cancelled before its first step does nothing

    async def _run(self) -> None:
        while self._queue:
            await self._make(self._next_batch())

    def _next_batch(self) -> list[Piece]:
        batch: list[Piece] = []
        size = 0
        while self._queue and len(batch) < _BATCH and size < _BYTES:
            piece = self._queue.popleft()
            size += len(piece.move.body) if isinstance(piece.move, Store) else 0
            batch.append(piece)
        return batch

    async def _make(self, batch: Sequence[Piece]) -> None:
        """Make the moves in one transaction; if that fails, each in one of its own."""
        try:
            answers = await self._commit(batch)
        except _LostError as exc:
            for piece in batch:
                self._end(piece, exc.error)
        except Exception as exc:  # noqa: BLE001 - the callers get it
            if len(batch) == 1:
                self._failed(batch[0], exc)
                return
            for piece in batch:
                if asyncio.get_running_loop().time() > piece.until:
                    self._end(piece, explain(exc, self._writer.address.where))
                else:
                    await self._make([piece])
        else:
            for piece, answer in zip(batch, answers, strict=True):
                if isinstance(answer, Held):
                    self._failed(piece, asyncpg.LockNotAvailableError("its row is locked"))
                else:
                    self._end(piece, answer)

    def _failed(self, piece: Piece, error: Exception) -> None:
        """Make the move again a little later if it only met a lock."""
        loop = asyncio.get_running_loop()
        if fault(error) is Fault.BUSY and loop.time() < piece.until:
            loop.call_later(piece.pause, self._put, piece)
            piece.pause = min(2 * piece.pause, _LONGEST)
            return
        self._end(piece, explain(error, self._writer.address.where))

    def _end(self, piece: Piece, end: Answer | LedgerError) -> None:
        """Give the caller the answer or the error, if it still waits."""
        self._open -= 1
        if not self._open:
            self._ended.set()
        if piece.done.done():
            return
        if isinstance(end, LedgerError):
            piece.done.set_exception(fresh(end))
            piece.done.exception()  # marked as seen, even if the caller was just cancelled
        else:
            piece.done.set_result(end)

    async def _commit(self, batch: Sequence[Piece]) -> Sequence[Answer | Held]:
        """Make the moves in one transaction, over as many connections as it takes.

        Raises:
            _LostError: if there was no usable connection in time.
            Exception: of the server, which did not commit it.
        """
        until = max(piece.until for piece in batch)
        moves = [(piece.key, piece.move) for piece in batch]
        doubt: InDoubtError | None = None
        pause = 0.0
        while True:
            try:
                await asyncio.sleep(pause)
                async with asyncio.timeout(self._timeout / 2), self._writer.lock:
                    await self._writer.connect()
                    if doubt is not None and doubt.number == self._writer.number:
                        return doubt.answers
                    doubt = None
                    return await transact(self._writer, self._tables, moves)
            except LedgerError as exc:
                raise _LostError(exc) from None
            except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - handled by kind
                error, doubt = self._broken(exc, doubt)
            pause = min(2 * pause or _PAUSE, _LONGEST)
            if asyncio.get_running_loop().time() + pause > until:
                unknown = doubt is not None
                raise _LostError(explain(error, self._writer.address.where, unknown=unknown))

    def _broken(
        self, error: BaseException, doubt: InDoubtError | None
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
            error = ConnectionAbortedError("the task of the ledger was cancelled")
        if doubt is None and fault(error) is not Fault.LOST:
            raise error
        self._writer.lose()
        return error, doubt


class _LostError(Exception):
    """There was no usable connection in time."""

    def __init__(self, error: LedgerError) -> None:
        super().__init__()
        self.error = error
