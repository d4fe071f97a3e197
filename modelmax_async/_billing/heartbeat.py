"""Keeping claims alive while their owner is, and paid answers until the ledger has them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, Generic, TypeVar

from modelmax_async._errors import LedgerError
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.events import LedgerFailed
from modelmax_async.ledger import Key, Ledger
from modelmax_async.ledger.moves import Arm, Renew, Store
from modelmax_async.ledger.transitions import Step

#: Seconds after which an owner that was not heard of counts as gone.
LEASE = 10.0
#: Seconds between two signs of life.
BEAT = 2.5
#: Seconds that a paid answer waits for the ledger before it is handed out unrecorded, and
#: before it is stored once more beside a try that hangs.
PATIENCE = 15.0
#: Moves about one job that may hang beside each other.
_MOST = 4


T = TypeVar("T")


class Tries(Generic[T]):
    """Moves about each job that may fail or hang, each in a task of its own.

    A further one is made beside those that hang; where there are too many, the oldest is
    cancelled.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[Key, list[asyncio.Task[T]]] = {}

    def running(self, key: Key) -> bool:
        """Whether a try for the job is under way."""
        return key in self._running

    def start(self, key: Key, move: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Make one more try."""
        tries = self._running.setdefault(key, [])
        if len(tries) >= _MOST:
            tries[0].cancel()
        task = self._tasks.spawn(move)
        tries.append(task)
        task.add_done_callback(partial(self._ended, key))
        return task

    def _ended(self, key: Key, task: asyncio.Task[T]) -> None:
        tries = self._running[key]
        tries.remove(task)
        if not tries:
            del self._running[key]


class Heartbeat:
    """Renews the leases of one client's attempts, and retries stores that failed.

    Each move is a task of its own: a ledger that is slow about one job, or hangs, delays the
    renewal of no other.
    """

    def __init__(self, ledger: Ledger, tasks: Tasks, hooks: Hooks) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._hooks = hooks
        self._held: dict[Key, str] = {}
        self._signs: dict[Key, float] = {}
        self._renewals = Tries[None](tasks)
        self._unsaved: dict[Key, Store] = {}
        self._stores = Tries[Step](tasks)
        self._task: asyncio.Task[None] | None = None

    def hold(self, key: Key, attempt: str) -> None:
        """Renew the attempt's lease until `let_go`."""
        self._held[key] = attempt
        self._start()

    def let_go(self, key: Key) -> None:
        """Stop renewing, unless a paid answer of this attempt is still to be saved."""
        if key not in self._unsaved:
            self._held.pop(key, None)
        self._signs.pop(key, None)

    async def arm(self, key: Key, attempt: str) -> bool:
        """Arm an attempt; return whether that was granted, and in time."""
        asked = clock.boottime()
        done = await self._ledger.apply(key, Arm(attempt, LEASE))
        if done is None:
            raise LedgerError("the ledger lost an entry that it was just given")
        if not done.granted:
            return False
        self._signs[key] = asked
        return self.in_time(key)

    def in_time(self, key: Key) -> bool:
        """Whether the last lease that the ledger granted still holds, by this machine's clock.

        It counts from when it was asked for: the ledger may have been slow to say so.
        """
        return clock.boottime() - self._signs[key] < LEASE

    def unsaved(self, key: Key) -> bytes | None:
        """Return a paid answer that the ledger could not take yet."""
        kept = self._unsaved.get(key)
        if kept is None:
            return None
        self._start()  # whoever cancelled all tasks of the loop has ended the retries too
        return kept.body

    async def save(self, key: Key, store: Store) -> Step | None:
        """Put a paid answer into the ledger; where that fails, keep it and try again.

        Returns:
            What became of the move; ``None`` where the ledger has not taken it so far.
        """
        self._unsaved[key] = store  # first of all: what is cancelled now is tried again
        task = self._stores.start(key, self._store(key, store))
        await asyncio.wait([task], timeout=PATIENCE)
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        error = task.exception() if task.done() and not task.cancelled() else None
        cause = error or f"it has not answered for {PATIENCE:.0f} seconds"
        self._hooks.emit(LedgerFailed(store.job, f"a paid answer is not stored yet: {cause}"))
        return None

    async def flush(self, key: Key) -> None:
        """Try at once to store an answer that the ledger could not take yet."""
        if (store := self._unsaved.get(key)) is not None:
            await asyncio.wait(
                [self._stores.start(key, self._store(key, store))], timeout=PATIENCE
            )

    async def aclose(self, seconds: float) -> None:
        """Stop, after one last try at what is not saved: all at once, in a bounded time."""
        if self._task is not None:
            self._task.cancel()
        # A new try for each, beside one that may hang; the same answer can be stored twice.
        last = [self._store(key, store) for key, store in self._unsaved.items()]
        await self._tasks.finish({self._tasks.spawn(store) for store in last}, seconds)
        for store in self._unsaved.values():
            cause = "the client closed, and a paid answer is still not stored: it is lost"
            self._hooks.emit(LedgerFailed(store.job, cause))

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._run())

    async def _run(self) -> None:
        beats = 0
        while self._held:
            await asyncio.sleep(BEAT)
            beats += 1
            for key, store in self._unsaved.items():
                if not self._stores.running(key) or beats % int(PATIENCE / BEAT) == 0:
                    self._stores.start(key, self._store(key, store))
            for key, attempt in self._held.items():
                # One that fails lets the lease run out, which is safe.
                self._renewals.start(key, self._renew(key, attempt))

    async def _store(self, key: Key, store: Store) -> Step:
        done = await self._ledger.apply(key, store)
        if done is None:
            raise LedgerError("the ledger did not keep a paid answer")
        if self._unsaved.get(key) is store:
            del self._unsaved[key]
            if self._held.get(key) == store.attempt:
                del self._held[key]
        return done

    async def _renew(self, key: Key, attempt: str) -> None:
        asked = clock.boottime()
        done = await self._ledger.apply(key, Renew(attempt, LEASE))
        if done is not None and done.granted and self._signs.get(key, asked) < asked:
            self._signs[key] = asked
