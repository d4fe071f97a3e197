"""Keeping claims alive while their owner is, and paid answers until the ledger has them."""

from __future__ import annotations

import asyncio

from modelmax_async._events import Hooks, LedgerFailed
from modelmax_async._lifecycle import Renew, Store
from modelmax_async._tasks import Tasks
from modelmax_async.ledger import Key, Ledger

#: Seconds after which an owner that was not heard of counts as gone.
LEASE = 10.0
#: Seconds between two signs of life.
BEAT = 2.5


class Heartbeat:
    """Renews the leases of one client's attempts, and retries stores that failed."""

    def __init__(self, ledger: Ledger, tasks: Tasks, hooks: Hooks) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._hooks = hooks
        self._held: dict[Key, str] = {}
        self._unsaved: dict[Key, Store] = {}
        self._task: asyncio.Task[None] | None = None

    def hold(self, key: Key, attempt: str) -> None:
        """Renew the attempt's lease until `let_go`."""
        self._held[key] = attempt
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._run())

    def let_go(self, key: Key) -> None:
        """Stop renewing, unless a paid answer of this attempt is still to be saved."""
        if key not in self._unsaved:
            self._held.pop(key, None)

    def unsaved(self, key: Key) -> bytes | None:
        """Return a paid answer that the ledger could not take yet."""
        kept = self._unsaved.get(key)
        return None if kept is None else kept.body

    async def save(self, key: Key, store: Store) -> None:
        """Put a paid answer into the ledger; where that fails, keep it and try again."""
        known = key in self._unsaved
        self._unsaved[key] = store  # first of all: what is cancelled now is tried again
        try:
            await self._ledger.apply(key, store)
        except Exception as exc:  # noqa: BLE001 - nothing a ledger raises may cost a paid answer
            if not known:
                self._hooks.emit(
                    LedgerFailed(store.job, f"a paid answer is not stored yet: {exc}")
                )
        else:
            self._unsaved.pop(key, None)

    async def aclose(self) -> None:
        """Stop, after one last try at what is not saved."""
        if self._task is not None:
            self._task.cancel()
        for key, store in list(self._unsaved.items()):
            await self.save(key, store)
        for store in self._unsaved.values():
            cause = "the client closed, and a paid answer is still not stored: it is lost"
            self._hooks.emit(LedgerFailed(store.job, cause))

    async def _run(self) -> None:
        while self._held:
            await asyncio.sleep(BEAT)
            for key, store in list(self._unsaved.items()):
                await self.save(key, store)
                self.let_go(key)
            renewals = [
                self._ledger.apply(key, Renew(attempt, LEASE))
                for key, attempt in self._held.items()
            ]
            # A renewal that fails lets the lease run out, which is safe.
            await asyncio.gather(*renewals, return_exceptions=True)
