"""Telling owners that are gone from owners that are slow: by leases that stand still.

Every renewal changes ``lease_until``. An owner whose value has been seen unchanged for longer
than the lease is gone, whatever the wall clocks say. The time is this client's own, and counts
only as far as the client was awake: of the gap between two looks, half a lease at most.
"""

from __future__ import annotations

from collections import OrderedDict

import attrs

from modelmax_async._models import LedgerEntry
from modelmax_async.ledger import Key

#: Seconds after which a lease that nobody looked at any more is forgotten.
_KEPT = 600.0


@attrs.define
class _Sighting:
    lease_until: float
    lease: float
    looked: float
    unchanged: float = 0.0


class LeaseWatch:
    """The leases of others that this client has seen, and for how long each stands still.

    Args:
        lease: seconds that a lease lasts where the ledger does not say.
    """

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: OrderedDict[Key, _Sighting] = OrderedDict()

    def look(self, key: Key, entry: LedgerEntry, now: float) -> None:
        """Note the lease of an attempt of another client.

        Args:
            key: the job.
            entry: what the ledger holds of it, claimed or armed.
            now: this client's monotonic clock, in seconds.
        """
        seen = self._seen.get(key)
        if seen is None or seen.lease_until != entry.lease_until:
            seen = _Sighting(entry.lease_until, entry.lease or self._lease, now)
            self._seen[key] = seen
        seen.unchanged += min(now - seen.looked, seen.lease / 2)
        seen.looked = now
        self._seen.move_to_end(key)
        while next(iter(self._seen.values())).looked < now - _KEPT:
            self._seen.popitem(last=False)

    def gone(self, key: Key) -> float | None:
        """Return the lease to take over, if its owner is known to be gone."""
        seen = self._seen.get(key)
        return seen.lease_until if seen and seen.unchanged > seen.lease else None

    def forget(self, key: Key) -> None:
        """Watch the job no longer: nobody holds it."""
        self._seen.pop(key, None)
