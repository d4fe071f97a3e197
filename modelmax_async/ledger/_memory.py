"""A ledger in memory: safe within a process, gone with it."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection

from attrs import evolve

from modelmax_async._errors import LedgerError
from modelmax_async._lifecycle import Move, Step, observed, step
from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async.ledger._protocol import Key

_DROPPED = (
    "its result was stored, and later dropped to keep the MemoryLedger within "
    "max_body_bytes; a SQLiteLedger keeps results for ever"
)


class MemoryLedger:
    """The default ledger. It dies with the process: keep paid jobs in a `SQLiteLedger`.

    It is bounded, and no bound leads to a second charge: a result that is dropped leaves an
    uncertain entry behind, and with no room for another job there is no billed call for it.

    Args:
        max_entries: how many jobs it remembers; the oldest that owe nothing are
            forgotten first.
        max_body_bytes: bytes of paid answers; the oldest are dropped first, the newest never.
    """

    def __init__(
        self, *, max_entries: int = 250_000, max_body_bytes: int = 64 * 1024 * 1024
    ) -> None:
        if max_entries < 1 or max_body_bytes < 1:
            raise ValueError("max_entries and max_body_bytes are at least 1")
        self._max_entries = max_entries
        self._max_body_bytes = max_body_bytes
        self._entries: dict[Key, LedgerEntry] = {}
        self._bodies: OrderedDict[Key, int] = OrderedDict()
        self._body_bytes = 0

    def __repr__(self) -> str:
        return f"<MemoryLedger: {len(self._entries)} jobs, {self._body_bytes} bytes of results>"

    async def apply(self, key: Key, move: Move) -> Step | None:
        """Take one step. There is no await in it, so that nothing can come between."""
        before = self._entries.get(key)
        done = step(before, move, time.time())
        if done is not None and done.entry is not before:
            if before is None:
                self._make_room()
            self._entries[key] = done.entry
            self._weigh(key, done.entry)
        return done

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, without bodies."""
        now = time.time()
        seen = (observed(e, now) for key, e in self._entries.items() if key.origin == origin)
        return [evolve(entry, body=None) for entry in seen if entry.state in states]

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of, and results stay to be asked for."""

    def _make_room(self) -> None:
        if len(self._entries) < self._max_entries:
            return
        for key, entry in self._entries.items():
            if entry.state in {"known", "failed"}:
                del self._entries[key]
                return
        raise LedgerError(
            f"the MemoryLedger is full: {self._max_entries} jobs, each with a paid result or "
            "an open question. No billed call was made. Use a SQLiteLedger, or a larger "
            "max_entries"
        )

    def _weigh(self, key: Key, entry: LedgerEntry) -> None:
        self._body_bytes -= self._bodies.pop(key, 0)
        if entry.body is None:
            return
        self._bodies[key] = len(entry.body)
        self._body_bytes += len(entry.body)
        while self._body_bytes > self._max_body_bytes and len(self._bodies) > 1:
            oldest, size = self._bodies.popitem(last=False)
            self._body_bytes -= size
            self._entries[oldest] = evolve(
                self._entries[oldest],
                state="uncertain",
                phase="answered",
                cause=_DROPPED,
                body=None,
            )
