"""One thread that owns the SQLite connection and commits what arrives together at once.

The thread starts with the first piece of work and ends after a few idle seconds, so that a
ledger may be made inline and never closed.
"""

from __future__ import annotations

import asyncio
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
from modelmax_async.ledger._sqlite_file import explain, identity, open_file

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

#: Pieces of work that share one transaction and one sync at most.
BATCH = 512
#: Seconds without work after which the thread ends and the file is closed.
IDLE = 1.0


class SQLiteThread:
    """Runs pieces of work in transactions, in the order they came."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._queue: deque[tuple[Work, Future[Any]]] = deque()
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what the work returned, once it is durable.

        Raises:
            LedgerError: when it could not be done or not be made durable; nothing of it
                was written then.
        """
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # work asked for is done, whoever is cancelled
        if self._pid != os.getpid():
            self._reset()  # a fork: the thread and the connection stayed with the parent
        with self._wake:
            self._queue.append((work, done))
            self._closing = False
            if self._thread is None:
                # No daemon: a program that ends waits for what it asked to be written.
                thread = threading.Thread(
                    target=self._main, name=f"ledger {self.path.name}", daemon=False
                )
                try:
                    thread.start()
                except RuntimeError as exc:  # no more threads, or the interpreter is ending
                    self._queue.pop()
                    raise explain(exc, self.path) from None
                self._thread = thread
            self._wake.notify()
        return await asyncio.wrap_future(done)

    async def aclose(self) -> None:
        """Let the thread finish its queue, close the file and end."""
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        with self._wake:
            self._closing = True
            self._wake.notify()
        await asyncio.to_thread(thread.join)

    def _main(self) -> None:
        db: sqlite3.Connection | None = None
        opened = None
        while batch := self._next_batch():
            try:
                if db is None:
                    db = open_file(self.path, self._busy_timeout)
                    opened = identity(self.path)
                elif identity(self.path) != opened:
                    raise LedgerError(
                        f"the ledger {self.path} was removed or replaced while in use. Nothing "
                        "was recorded: put it back, or make a new client"
                    )
                self._commit(db, batch)
            except Exception as exc:  # noqa: BLE001 - the thread lives on, and those who wait hear
                _fail(batch, explain(exc, self.path))
                _close(db)
                db = None
        _close(db)

    def _next_batch(self) -> list[tuple[Work, Future[Any]]]:
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait_for(lambda: self._queue or self._closing, timeout=IDLE)
            size = min(BATCH, len(self._queue))
            batch = [self._queue.popleft() for _ in range(size)]
            if not batch:
                self._thread = None
            return batch

    def _commit(self, db: sqlite3.Connection, batch: list[tuple[Work, Future[Any]]]) -> None:
        """Do a batch in one transaction; where that fails, each piece in its own."""
        db.execute("BEGIN IMMEDIATE")  # a lock that is not to be had is so for the whole batch
        try:
            values = [work(db) for work, _ in batch]
            db.execute("COMMIT")
        except Exception as exc:  # noqa: BLE001 - whatever it is, it goes to those who wait
            if db.in_transaction:  # on a full disk, say, SQLite has ended it already
                db.execute("ROLLBACK")
            if len(batch) == 1:
                _fail(batch, explain(exc, self.path))
                return
            for single in batch:
                self._commit(db, [single])
            return
        for (_, done), value in zip(batch, values, strict=True):
            done.set_result(value)


def _fail(batch: list[tuple[Work, Future[Any]]], error: LedgerError) -> None:
    for done in (done for _, done in batch if not done.done()):
        done.set_exception(error)


def _close(db: sqlite3.Connection | None) -> None:
    if db is not None:
        with contextlib.suppress(sqlite3.Error):
            db.close()
