"""The thread that owns the SQLite connection, and commits concurrent moves together.

The thread starts with the first piece of work and ends after an idle second, so that a ledger
does not have to be closed.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from modelmax_async._errors import LedgerError
from modelmax_async._runtime.threads import result_of
from modelmax_async.ledger.sqlite_file import SQLiteFile, explain
from modelmax_async.ledger.sqlite_schema import count_write

T = TypeVar("T")
#: What to do in a transaction; ``None`` closes the file.
Work = Callable[[sqlite3.Connection], Any] | None
Piece = tuple[Work, Future[Any]]

#: The most pieces of work that share one transaction and one sync.
BATCH = 512
#: Seconds without work after which the thread ends and the file is closed.
IDLE = 1.0


class SQLiteThread:
    """Runs pieces of work in transactions, in order."""

    def __init__(self, path: Path, busy_timeout: float, *, shared: bool) -> None:
        self.path = path
        self._file = SQLiteFile(path, busy_timeout, shared=shared)
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._queue: deque[Piece] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ended = _promise()
        self._ended.set_result(None)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the work returned, once it is durable.

        Raises:
            LedgerError: if it failed or could not be made durable; nothing was written.
        """
        done: Future[T] = _promise()
        if self._pid != os.getpid():
            self._reset()  # a fork: the thread and the connection belong to the parent
        with self._wake:
            self._queue.append((work, done))
            if self._thread is None:
                try:
                    self._start()
                except RuntimeError as exc:  # no more threads, or the interpreter exits
                    self._queue.pop()
                    raise explain(exc, self.path) from None
            self._wake.notify()
        return await result_of(done)

    def _start(self) -> None:
        ended = _promise()
        name = f"ledger {self.path.name}"
        # Not a daemon: a program that exits waits for its pending writes.
        thread = threading.Thread(target=self._main, args=(ended,), name=name, daemon=False)
        thread.start()
        self._thread, self._ended = thread, ended

    async def aclose(self) -> None:
        """Wait until the pending work is done and the file is closed.

        If it is cancelled, the thread still finishes.
        """
        if self._pid != os.getpid():
            return
        with self._wake:
            done = self._ended
            if self._thread is not None:
                done = _promise()
                self._queue.append((None, done))
                self._wake.notify()
        await result_of(done)

    def _main(self, ended: Future[None]) -> None:
        db: sqlite3.Connection | None = None
        while batch := self._next_batch(0.0 if db is None else IDLE):
            if batch[0][0] is None:
                _close(db)
                db = None
                batch[0][1].set_result(None)
                continue
            try:
                if db is None:
                    db = self._file.open()
                else:
                    self._file.check()
                self._commit(db, batch)
            except BaseException as exc:  # noqa: BLE001 - the thread goes on, the waiters get the error
                _fail(batch, explain(exc, self.path))
                _close(db)
                db = None
        _close(db)
        ended.set_result(None)

    def _next_batch(self, patience: float) -> list[Piece]:
        """Return the pieces of one transaction, the one that closes the file, or none."""
        with self._wake:
            self._wake.wait_for(lambda: self._queue, timeout=patience)
            batch: list[Piece] = []
            while self._queue and len(batch) < BATCH:
                if self._queue[0][0] is None and batch:
                    break
                batch.append(self._queue.popleft())
                if batch[0][0] is None:
                    break
            if not batch:
                self._thread = None
            return batch

    def _commit(self, db: sqlite3.Connection, batch: list[Piece]) -> None:
        """Do a batch in one transaction; if that fails, each piece in its own."""
        db.execute("BEGIN IMMEDIATE")  # without the lock, the whole batch fails
        try:
            before = db.total_changes
            values = [work(db) for work, _ in batch if work is not None]
            marks = count_write(db) if db.total_changes > before else None
            db.execute("COMMIT")
        except BaseException as exc:  # noqa: BLE001 - the waiters get it
            if db.in_transaction:  # SQLite may have ended it, for example on a full disk
                db.execute("ROLLBACK")
            if len(batch) == 1:
                _fail(batch, explain(exc, self.path))
                return
            for single in batch:
                self._commit(db, [single])
            return
        if marks is not None:
            self._file.written(marks)
        for (_, done), value in zip(batch, values, strict=True):
            done.set_result(value)


def _promise() -> Future[Any]:
    """Return a future that its waiter cannot cancel: the work is done in any case."""
    done: Future[Any] = Future()
    done.set_running_or_notify_cancel()
    return done


def _fail(batch: list[Piece], error: LedgerError) -> None:
    for done in (done for _, done in batch if not done.done()):
        done.set_exception(error)


def _close(db: sqlite3.Connection | None) -> None:
    if db is not None:
        with contextlib.suppress(sqlite3.Error):
            db.close()
