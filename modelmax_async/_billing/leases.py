"""Leases: renewing those of this client's claims, and watching those of other clients'.

Every renewal changes ``lease_until``. An owner whose value was seen unchanged for longer than
the lease is gone, whatever the wall clocks say.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import attrs

from modelmax_async._errors import LedgerError
from modelmax_async._models import LedgerEntry, Submission
from modelmax_async._runtime import clock
from modelmax_async._runtime.tasks import Tasks, Tries
from modelmax_async.ledger import Arm, Key, Ledger, Renew, SubmitKey
from modelmax_async.ledger.attempts import LONGEST_LEASE

AnyKey = Key | SubmitKey
#: Seconds after which an owner that gave no sign of life counts as gone.
LEASE = 10.0
#: Seconds between two renewals.
BEAT = 2.5
#: Seconds between two looks at what another client holds.
LOOK = 0.25
#: Seconds without a look after which the lease of another client is forgotten.
_KEPT = 600.0


@attrs.define
class _Own:
    """A lease of this client's, and when the ledger was last asked for it."""

    attempt: str
    asked_at: float | None = None


class Leases:
    """The leases of one client's attempts, renewed until they are let go.

    Each renewal is a task of its own: a ledger that hangs at one job delays no other.
    """

    def __init__(self, ledger: Ledger, tasks: Tasks) -> None:
        self._ledger = ledger
        self._tasks = tasks
        self._own: dict[AnyKey, _Own] = {}
        self._renewals = Tries[AnyKey, None](tasks)
        self._task: asyncio.Task[None] | None = None

    def hold(self, key: AnyKey, attempt: str) -> None:
        """Renew the attempt's lease until `let_go`."""
        self._own[key] = _Own(attempt)
        self.beat()

    def let_go(self, key: AnyKey, attempt: str) -> None:
        """Stop renewing the attempt's lease."""
        if key in self._own and self._own[key].attempt == attempt:
            del self._own[key]

    async def arm(self, key: Key, attempt: str) -> bool:
        """Arm an attempt; return whether that was granted, and in time."""
        asked_at = clock.boottime()
        done = await self._ledger.apply(key, Arm(attempt, LEASE))
        if done is None:
            raise LedgerError("the ledger lost an entry that it was just given")
        if not done.granted:
            return False
        self._own[key].asked_at = asked_at
        return self.in_time(key)

    def in_time(self, key: Key) -> bool:
        """Whether the last lease that the ledger granted still holds, by this machine's clock.

        It counts from when it was asked for: the ledger may have been slow to grant it.
        """
        asked_at = self._own[key].asked_at
        return asked_at is not None and clock.boottime() - asked_at < LEASE

    def beat(self) -> None:
        """See to it that leases are renewed, even if the task that does so was cancelled."""
        if self._task is None or self._task.done():
            self._task = self._tasks.spawn(self._renew_all())

    def stop(self) -> None:
        """Renew no lease any more."""
        if self._task is not None:
            self._task.cancel()

    async def _renew_all(self) -> None:
        while self._own:
            await asyncio.sleep(BEAT)
            for key, own in self._own.items():
                # One that fails lets the lease run out, which is safe.
                self._renewals.start(key, self._renew(key, own))

    async def _renew(self, key: AnyKey, own: _Own) -> None:
        asked_at = clock.boottime()
        done = await self._ledger.apply(key, Renew(own.attempt, LEASE))
        granted = done is not None and done.granted
        if granted and own.asked_at is not None:  # armed: from then on it counts
            own.asked_at = max(own.asked_at, asked_at)


@attrs.define
class _Sighting:
    lease_until: float
    lease: float
    looked: float
    unchanged: float = 0.0


class LeaseWatch:
    """The leases of other clients that this client has seen, and how long each stands still.

    The time is this client's own, and counts only as far as the client was awake: of the gap
    between two looks, half a lease at most.

    Args:
        lease: seconds that a lease lasts if the ledger does not say, or names no usable number.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: OrderedDict[AnyKey, _Sighting] = OrderedDict()

    def look(self, key: AnyKey, entry: LedgerEntry | Submission, now: float) -> None:
        """Note the lease of another client's attempt at ``now``, by this client's own clock."""
        seen = self._seen.get(key)
        if seen is None or seen.lease_until != entry.lease_until:
            usable = 0 < entry.lease <= LONGEST_LEASE
            seen = _Sighting(entry.lease_until, entry.lease if usable else self._lease, now)
            self._seen[key] = seen
        seen.unchanged += min(now - seen.looked, seen.lease / 2)
        seen.looked = now
        self._seen.move_to_end(key)
        while next(iter(self._seen.values())).looked < now - _KEPT:
            self._seen.popitem(last=False)

    def gone(self, key: AnyKey) -> float | None:
        """Return the lease to take over, if its owner is known to be gone."""
        seen = self._seen.get(key)
        return seen.lease_until if seen and seen.unchanged > seen.lease else None

    def forget(self, key: AnyKey) -> None:
        """Watch the job no longer: no other client holds it."""
        self._seen.pop(key, None)
