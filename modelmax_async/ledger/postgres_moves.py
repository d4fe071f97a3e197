"""Moves that arrive together share a transaction, and fail alone.

A row that another transaction holds is left out, and its moves are made a little later, so
that it delays no other. A transaction that fails for another reason, or takes too long, is made
again in two halves, until a move that fails is alone. The moves of a billed call under way go
first, because its lease may run out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence

import asyncpg
import attrs

from modelmax_async._errors import LedgerError, fresh
from modelmax_async.ledger.moves import Arm, Move, Renew, Store
from modelmax_async.ledger.postgres_batch import Answer, AnyKey
from modelmax_async.ledger.postgres_commit import LONGEST, PAUSE, Committer, UnusableError
from modelmax_async.ledger.postgres_errors import Fault, explain, fault
from modelmax_async.ledger.postgres_tables import Tables
from modelmax_async.ledger.postgres_transaction import Held
from modelmax_async.ledger.postgres_writer import Writer

#: The most moves in one transaction, each of which may take a lock of the server's for a key
#: that it adds, and the bytes of bodies from which on no more are added.
_BATCH, _BYTES = 256, 4 * 2**20


@attrs.define(eq=False)
class Piece:
    """A move on its way into a transaction. It fails at ``until``, by the loop's clock."""

    key: AnyKey
    move: Move
    until: float
    done: asyncio.Future[Answer]
    pause: float = PAUSE

    @property
    def rank(self) -> int:
        """What goes first: 0 keeps a lease, 1 saves a paid response, 2 is all the rest."""
        return 0 if isinstance(self.move, Arm | Renew) else 2 - isinstance(self.move, Store)


class Moves:
    """Makes moves, in transactions that run one after another."""

    def __init__(self, writer: Writer, tables: Tables) -> None:
        self._committer = Committer(writer, tables)
        self._timeout = writer.address.timeout
        self._queues: tuple[deque[Piece], ...] = (deque(), deque(), deque())
        #: What is left of transactions that failed. It takes turns with the queues.
        self._parts: deque[Sequence[Piece]] = deque()
        self._turn = False
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
        """Wait until no move is under way, but no longer than one can take."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * self._timeout):
                while self._open:
                    self._ended.clear()
                    await self._ended.wait()

    def _put(self, piece: Piece) -> None:
        self._queues[piece.rank].append(piece)
        self._start()

    def _put_alone(self, piece: Piece) -> None:
        self._parts.append([piece])
        self._start()

    def _waiting(self) -> bool:
        return any((*self._queues, self._parts))

    def _start(self) -> None:
        if self._task is None and self._waiting():
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._stopped)

    def _stopped(self, _: asyncio.Task[None]) -> None:
        self._task = None
        self._start()  # a task that is cancelled before its first step does nothing

    async def _run(self) -> None:
        while self._waiting():
            self._turn = not self._turn
            if self._parts and (self._turn or not any(self._queues)):
                await self._make(self._in_time(self._parts.popleft()))
            else:
                await self._make(self._next_batch())

    def _next_batch(self) -> list[Piece]:
        batch: list[Piece] = []
        size = 0
        for queue in self._queues:
            while queue and len(batch) < _BATCH and size < _BYTES:
                piece = queue.popleft()
                size += len(piece.move.body) if isinstance(piece.move, Store) else 0
                batch.append(piece)
        return batch

    def _in_time(self, part: Sequence[Piece]) -> list[Piece]:
        """End the moves whose time is over before their turn has come again."""
        now = asyncio.get_running_loop().time()
        for piece in part:
            if piece.until < now:
                text = (
                    f"the ledger {self._committer.where} did not make this move in time: its "
                    "transaction failed because of another move, or took too long. Nothing was "
                    "recorded: call again"
                )
                self._end(piece, LedgerError(text))
        return [piece for piece in part if piece.until >= now]

    async def _make(self, batch: Sequence[Piece]) -> None:
        """Make the moves in one transaction; if that fails, leave two halves of it."""
        if not batch:
            return
        moves = [(piece.key, piece.move) for piece in batch]
        try:
            answers = await self._committer.commit(moves, max(each.until for each in batch))
        except UnusableError as exc:
            for piece in batch:
                self._end(piece, exc.error)
        except Exception as exc:  # noqa: BLE001 - the callers get it
            if len(batch) == 1:
                self._failed(batch[0], exc, alone=True)
                return
            middle = len(batch) // 2
            self._parts.extendleft((batch[middle:], batch[:middle]))
        else:
            for piece, answer in zip(batch, answers, strict=True):
                if isinstance(answer, Held):
                    self._failed(piece, asyncpg.LockNotAvailableError("its row is locked"))
                else:
                    self._end(piece, answer)

    def _failed(self, piece: Piece, error: Exception, *, alone: bool = False) -> None:
        """Make the move again a little later if it only met a lock."""
        loop = asyncio.get_running_loop()
        if fault(error) is Fault.BUSY and loop.time() < piece.until:
            loop.call_later(piece.pause, self._put_alone if alone else self._put, piece)
            # A lease does not wait for a turn among many who only ask for the row.
            piece.pause = min(2 * piece.pause, LONGEST if piece.rank else LONGEST / 8)
            return
        self._end(piece, explain(error, self._committer.where))

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
