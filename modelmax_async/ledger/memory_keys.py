"""The keys of submits in a `MemoryLedger`."""

from __future__ import annotations

from modelmax_async._errors import LedgerError
from modelmax_async._models import LedgerEntry, Submission
from modelmax_async._runtime import clock
from modelmax_async.ledger.moves import Move
from modelmax_async.ledger.protocol import SubmitKey
from modelmax_async.ledger.submissions import SubmitStep, as_known, submit_step


class MemoryKeys:
    """The keys, and the submission of each. Its owner holds the lock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[SubmitKey, Submission] = {}

    def apply(self, key: SubmitKey, move: Move) -> SubmitStep | None:
        """Take one step; a key is never forgotten to make room for another."""
        done = submit_step(self._kept.get(key), move, clock.wall())
        if done is None:
            return None
        if done.deleted:
            del self._kept[key]
            return done
        if key not in self._kept and len(self._kept) >= self._most:
            raise LedgerError(
                f"the MemoryLedger is full: it has {self._most} keys of submits. Nothing was "
                "submitted: use a SQLiteLedger, or pass a larger max_entries"
            )
        self._kept[key] = done.entry
        return done

    def submitted(self, origin: str) -> list[LedgerEntry]:
        """Return an entry for the job of each submission of an origin."""
        mine = [kept for key, kept in self._kept.items() if key.origin == origin]
        return [entry for kept in mine if (entry := as_known(kept)) is not None]
