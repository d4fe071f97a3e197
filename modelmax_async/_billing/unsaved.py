"""Paid responses that the ledger has not stored yet: kept in memory, and tried again."""

from __future__ import annotations

import asyncio

from modelmax_async._billing.leases import BEAT, Leases
from modelmax_async._errors import LedgerError
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.tasks import Tasks, Tries
from modelmax_async.events import LedgerFailed
from modelmax_async.ledger import Key, Ledger, Step, Store

#: Seconds that a paid response waits for the ledger before it is returned unrecorded, and
#: before it is stored once more beside a try that hangs.
PATIENCE = 15.0


class Unsaved:
    """Stores paid responses, and keeps those that the ledger does not take.

    Until a response is stored, the lease of its attempt is renewed.
    """

    def __init__(self, ledger: Ledger, leases: Leases, tasks: Tasks, hooks: Hooks) -> None:
        self._ledger = ledger
        self._leases = leases
        self._tasks = tasks
        self._hooks = hooks
        self._pending: dict[Key, Store] = {}
        self._stores = Tries[Key, Step](tasks)
        self._task: asyncio.Task[None] | None = None

    def body(self, key: Key) -> bytes | None:
        """Return a paid response that the ledger has not stored yet."""
        kept = self._pending.get(key)
        if kept is None:
            return None
        self._retry()  # if all tasks of the loop were cancelled, the retries ended too
        return kept.body

    async def save(self, key: Key, store: Store) -> Step | None:
        """Store a paid response; if that fails, keep it and try again.

        Returns:
            What became of the move; ``None`` if the ledger has not taken it so far.
        """
        self._pending[key] = store  # first of all: if this is cancelled, it is tried again
        self._retry()
        task = self._stores.start(key, self._store(key, store))
        await asyncio.wait([task], timeout=PATIENCE)
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        error = task.exception() if task.done() and not task.cancelled() else None
        cause = error or f"the ledger has not answered for {PATIENCE:.0f} seconds"
        self._hooks.emit(LedgerFailed(store.job, f"a paid result is not stored yet: {cause}"))
        return None

    async def flush(self, key: Key) -> None:
        """Try at once to store a response that the ledger has not stored yet."""
        if (store := self._pending.get(key)) is not None:
            task = self._stores.start(key, self._store(key, store))
            await asyncio.wait([task], timeout=PATIENCE)

    async def aclose(self, seconds: float) -> None:
        """Stop, after one last try for each response: all at once, in a bounded time."""
        if self._task is not None:
            self._task.cancel()
        # A new try for each, beside one that may hang: storing the same body twice is harmless.
        last = [self._store(key, store) for key, store in self._pending.items()]
        await self._tasks.finish({self._tasks.spawn(store) for store in last}, seconds)
        for store in self._pending.values():
            cause = "the client closed, and a paid result is still not stored: it is lost"
            self._hooks.emit(LedgerFailed(store.job, cause))

    def _retry(self) -> None:
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._store_all())
        self._leases.beat()

    async def _store_all(self) -> None:
        beats = 0
        while self._pending:
            await asyncio.sleep(BEAT)
            beats += 1
            for key, store in self._pending.items():
                if not self._stores.running(key) or beats % int(PATIENCE / BEAT) == 0:
                    self._stores.start(key, self._store(key, store))

    async def _store(self, key: Key, store: Store) -> Step:
        done = await self._ledger.apply(key, store)
        if not isinstance(done, Step):
            raise LedgerError("the ledger did not keep a paid result")
        if self._pending.get(key) is store:
            del self._pending[key]
            self._leases.let_go(key, store.attempt)
        return done
