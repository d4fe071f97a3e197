"""A ledger in memory: safe within a process, gone with it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection

from attrs import evolve

from modelmax_async import _clock
from modelmax_async._errors import LedgerError
from modelmax_async._lifecycle import Step, observed, step
from modelmax_async._models import LedgerEntry, LedgerState
from modelmax_async._moves import Claim, Move, Store
from modelmax_async.ledger._protocol import Key


class MemoryLedger:
    """The default ledger. It dies with the process: keep paid jobs in a `SQLiteLedger`.

    It is bounded, and no bound costs a paid result: when it is full, no further billed call
    is made. It may be shared by clients of several event loops.

    Args:
        max_entries: how many jobs it remembers; the oldest that owe nothing are
            forgotten first.
        max_body_bytes: bytes of paid answers with which it takes no further claim.
    """

    def __init__(
        self, *, max_entries: int = 250_000, max_body_bytes: int = 256 * 1024 * 1024
    ) -> None:
        if max_entries < 1 or max_body_bytes < 1:
            raise ValueError("max_entries and max_body_bytes are at least 1")
        self._max_entries = max_entries
        self._max_body_bytes = max_body_bytes
        self._entries: dict[Key, LedgerEntry] = {}
        self._body_bytes = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MemoryLedger: {len(self._entries)} jobs, {self._body_bytes} bytes of results>"

    async def apply(self, key: Key, move: Move) -> Step | None:
        """Take one step. No await and no thread can come between."""
        with self._lock:
            before = self._entries.get(key)
            done = step(before, move, _clock.wall())
            if done is not None and done.entry is not before:
                if isinstance(move, Claim) and done.granted:
                    self._check_room()
                if before is None and not isinstance(move, Store):
                    self._make_room()
                self._entries[key] = done.entry
                self._body_bytes += _weight(done.entry) - _weight(before)
            return done

    async def entries(self, origin: str, states: Collection[LedgerState]) -> list[LedgerEntry]:
        """Return the entries of an origin in these states, without bodies."""
        now = _clock.wall()
        with self._lock:
            mine = [entry for key, entry in self._entries.items() if key.origin == origin]
        seen = (observed(entry, now) for entry in mine)
        return [evolve(entry, body=None) for entry in seen if entry.state in states]

    async def aclose(self) -> None:
        """Do nothing: there is nothing to let go of, and results stay to be asked for."""

    def _check_room(self) -> None:
        if self._body_bytes >= self._max_body_bytes:
            raise LedgerError(
                f"the MemoryLedger holds {self._body_bytes} bytes of paid results, as many as "
                "it may. No billed call was made. Use a SQLiteLedger, or more max_body_bytes"
            )

    def _make_room(self) -> None:
        excess = len(self._entries) + 1 - self._max_entries
        spare = (key for key, e in self._entries.items() if e.state in {"known", "failed"})
        for key in list(itertools.islice(spare, max(0, excess))):
            del self._entries[key]
            excess -= 1
        if excess <= 0:
            return
        raise LedgerError(
            f"the MemoryLedger is full: {self._max_entries} jobs, each with a paid result or "
            "an open question. No billed call was made. Use a SQLiteLedger, or a larger "
            "max_entries"
        )


def _weight(entry: LedgerEntry | None) -> int:
    return 0 if entry is None or entry.body is None else len(entry.body)
