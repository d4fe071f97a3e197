"""Attempts in progress: how long each holds, and what is left of a job when one ends."""

import math
from typing import Any

from attrs import evolve

from modelmax_async._models import LedgerEntry, LedgerState

GONE = "the process that made the call ended or hung before it recorded a response"
#: The longest lease, in seconds.
LONGEST_LEASE = 60.0


def is_held(entry: LedgerEntry) -> bool:
    """Whether an attempt is in progress: claimed or armed."""
    return entry.state in {"claimed", "armed"}


def is_gone(entry: LedgerEntry, takeover: float | None) -> bool:
    """Whether the lease of an attempt in progress is still the one watched standing still."""
    return is_held(entry) and entry.lease_until == takeover


def observed(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Return the entry as a list shows it: once its lease has run out, its owner is gone.

    A lease that ends later than the longest lease was written by a clock that was ahead, and
    counts as run out too. Lists may go by the time of day; `step` does not.

    Args:
        entry: the entry in the ledger.
        now: the time of the ledger's clock, in seconds since the epoch.
    """
    alive = now < entry.lease_until <= now + LONGEST_LEASE
    return abandoned_by_owner(entry, now) if is_held(entry) and not alive else entry


def abandoned_by_owner(entry: LedgerEntry, now: float) -> LedgerEntry:
    """An armed call becomes uncertain; a claim is undone."""
    if entry.state == "claimed":
        return rest(entry, now)
    return ended(entry, min(entry.lease_until, now), "uncertain", phase="sent", cause=GONE)


def ended(entry: LedgerEntry, now: float, state: LedgerState, **changes: Any) -> LedgerEntry:
    """Return the entry without an owner; its ``lease_until`` stays, see `leased`."""
    free: dict[str, Any] = {"owner": None, "phase": None, "cause": None}
    return evolve(entry, state=state, since=now, **(free | changes))


def rest(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Return the entry as it was before the attempt: known, or still awaiting a decision.

    It names the earlier attempt again, so that a decision about that one stays valid.
    ``resting`` stays, so that a proof that is recorded twice changes nothing the second time.
    """
    state = before(entry)
    why = (
        {"phase": entry.phase, "cause": entry.cause}
        if state in {"uncertain", "abandoned"}
        else {}
    )
    return ended(entry, now, state, attempt=entry.decided or entry.attempt, **why)


def before(entry: LedgerEntry) -> LedgerState:
    """Return the state that the attempt began from; if that is lost, the safest one."""
    presumed: LedgerState = "known" if entry.body is None else "stored"
    return entry.resting or ("uncertain" if entry.phase else presumed)


def later_lease(last: float, lease: float, now: float) -> tuple[float, float]:
    """Return the end and the length of a lease that follows one that ended at ``last``."""
    length = min(lease, LONGEST_LEASE)
    later = math.nextafter(last, math.inf)
    return max(now + length, later if math.isfinite(later) else 0.0), length


def leased(entry: LedgerEntry, lease: float, now: float) -> LedgerEntry:
    """Give a lease that ends later than the last: a lease that stands still was not renewed.

    It ends later even if the clock stood still or jumped back, and later than the leases of
    earlier attempts: a repeated value would look to another client like a lease not renewed.
    """
    until, length = later_lease(entry.lease_until, lease, now)
    return evolve(entry, lease_until=until, lease=length)
