"""What happens to a job's one billed call: pure decisions, no I/O, no clock.

`step` is the state machine that every ledger applies inside one transaction. It decides
nothing by the clock: ``now`` is only recorded. An owner counts as gone when another client
has watched its lease stand still (``Claim.takeover``); only lists go by the time of day.
"""

import math
from typing import Any

import attrs
from attrs import evolve

from modelmax_async._api.endpoints import is_readable
from modelmax_async._models import LedgerEntry, LedgerState, Value
from modelmax_async.ledger.moves import (
    Arm,
    Claim,
    Doubt,
    Fail,
    Look,
    Move,
    Release,
    Remember,
    Renew,
    Store,
)

GONE = "the process that made the call ended, or stood still, before it recorded an answer"
#: Seconds that no lease exceeds.
LONGEST_LEASE = 60.0

#: The states that a user's decision can move.
_OWING = frozenset({"uncertain", "stored", "abandoned", "delivered"})


@attrs.frozen
class Step(Value):
    """What a move came to: the entry as it now is, and whether the move was granted."""

    entry: LedgerEntry
    granted: bool


def step(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    """Apply one move to what the ledger holds of a job.

    Args:
        entry: the entry as it was read, ``None`` when the ledger has none.
        move: what is asked for.
        now: the ledger's clock, seconds since the epoch.

    Returns:
        The entry to write back (the same object where nothing changed), or ``None``
        when there is no such job and the move does not bring one.
    """
    if entry is None:
        if not isinstance(move, Remember | Claim | Store):
            return None
        heard = not isinstance(move, Claim)  # a claim says by itself whether it is
        entry = LedgerEntry(job=move.job, state="known", since=now, acknowledged=heard)
        if isinstance(move, Remember):
            return Step(entry, granted=True)
    elif isinstance(move, Claim | Fail) and _is_gone(entry, move.takeover):
        entry = _abandoned_by_owner(entry, now)
    after = _MOVES[type(move)](entry, move, now)
    return Step(entry if after is None else after, granted=after is not None)


def is_held(entry: LedgerEntry) -> bool:
    """Whether an attempt is under way: claimed or armed."""
    return entry.state in {"claimed", "armed"}


def _is_gone(entry: LedgerEntry, takeover: float | None) -> bool:
    """Whether an attempt is under way whose lease has been watched standing still, and does."""
    return is_held(entry) and entry.lease_until == takeover


def observed(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Return the entry as a list shows it: with a lease that ran out, its owner is gone.

    A lease that ends later than any lease can was written by a clock that was ahead, and
    counts as run out too. Lists may go by the time of day; `step` does not.
    """
    alive = now < entry.lease_until <= now + LONGEST_LEASE
    return _abandoned_by_owner(entry, now) if is_held(entry) and not alive else entry


def _abandoned_by_owner(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Armed by an owner that is gone is uncertain; claimed is as it was before the claim."""
    if entry.state == "claimed":
        return _rest(entry, now)
    return _ended(entry, min(entry.lease_until, now), "uncertain", phase="sent", cause=GONE)


def _ended(entry: LedgerEntry, now: float, state: LedgerState, **changes: Any) -> LedgerEntry:
    """Return the entry in a state that no client holds it in.

    ``lease_until`` stays, so that the next attempt's lease is not taken for this one.
    """
    free: dict[str, Any] = {"owner": None, "phase": None, "cause": None}
    return evolve(entry, state=state, since=now, **(free | changes))


def _rest(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Return the entry as it was before the attempt: free, or still owing a decision.

    It is then about the earlier attempt again, so that a decision about that one still holds.
    ``resting`` stays: the same proof given twice frees nothing that is not free.
    """
    state = _before(entry)
    why = {"phase": entry.phase, "cause": entry.cause} if state == "uncertain" else {}
    return _ended(entry, now, state, attempt=entry.decided or entry.attempt, **why)


def _before(entry: LedgerEntry) -> LedgerState:
    """Return what the attempt began from; where that is lost, what cannot cost a charge."""
    presumed: LedgerState = "known" if entry.body is None else "stored"
    return entry.resting or ("uncertain" if entry.phase else presumed)


def _leased(entry: LedgerEntry, lease: float, now: float) -> LedgerEntry:
    """Give a lease that ends later than the last: one that stands still was not renewed.

    It ends later even where the clock stood still or jumped back, and than the leases of
    earlier attempts: a value that came twice would look to another client as if the owner
    had given no sign of life in between.
    """
    length = min(lease, LONGEST_LEASE)
    until = max(now + length, math.nextafter(entry.lease_until, math.inf))
    return evolve(entry, lease_until=until, lease=length)


def _remember(entry: LedgerEntry, move: Remember, _now: float) -> LedgerEntry | None:
    # Recorded under a model that the server refused, perhaps; it has acknowledged this one.
    renamed = entry.state == "known" and entry.job.model != move.job.model
    if entry.acknowledged and not renamed:
        return None
    return evolve(entry, job=move.job if renamed else entry.job, acknowledged=True)


def _claim(entry: LedgerEntry, move: Claim, now: float) -> LedgerEntry | None:
    decided = move.accept is not None and entry.attempt == move.accept
    accepted = decided and entry.state in _OWING and not _has_result(entry)
    if entry.state != "known" and not accepted:
        return None
    return evolve(
        _leased(entry, move.lease, now),
        job=move.job if entry.state == "known" and move.acknowledged else entry.job,
        state="claimed",
        since=now,
        owner=move.owner,
        attempt=move.attempt,
        resting=entry.state,
        decided=move.accept if accepted else None,
        acknowledged=entry.acknowledged or move.acknowledged,
    )


def _has_result(entry: LedgerEntry) -> bool:
    """Whether the entry holds a readable answer, which is never paid over."""
    return entry.body is not None and is_readable(entry.body, entry.job)


def _arm(entry: LedgerEntry, move: Arm, now: float) -> LedgerEntry | None:
    if entry.state != "claimed" or entry.attempt != move.attempt:
        return None
    return evolve(_leased(entry, move.lease, now), state="armed", since=now)


def _renew(entry: LedgerEntry, move: Renew, now: float) -> LedgerEntry | None:
    if not is_held(entry) or entry.attempt != move.attempt:
        return None
    return _leased(entry, move.lease, now)


def _store(entry: LedgerEntry, move: Store, now: float) -> LedgerEntry | None:
    another = entry.attempt != move.attempt
    if entry.body is not None and (another or entry.body != move.body):
        # Two answers were paid for. A readable one beats one that is not; else the first stays,
        # unless the call that is under way brought the second.
        readable = is_readable(move.body, entry.job)
        if _has_result(entry) and (another or not readable):
            return None
        if another and not readable:
            return None
    elif another and _may_go_on(entry) and not is_readable(move.body, entry.job):
        # A late answer that helps nobody must not displace the call that is under way.
        return evolve(entry, body=move.body, resting="stored")
    paid: dict[str, Any] = {"attempt": move.attempt, "body": move.body}
    return _ended(entry, now, "stored", resting=None, decided=None, **paid)


def _may_go_on(entry: LedgerEntry) -> bool:
    """Whether a call under way goes on though an earlier one was paid for, it turns out.

    One that is sent cannot be stopped; one that was decided about pays over that very one.
    """
    return entry.state == "armed" or (entry.state == "claimed" and entry.decided is not None)


def _release(entry: LedgerEntry, move: Release, now: float) -> LedgerEntry | None:
    # A proof that comes after others took the owner for gone is a proof all the same.
    open_ = is_held(entry) or entry.state == "uncertain"
    return _rest(entry, now) if open_ and entry.attempt == move.attempt else None


def _fail(entry: LedgerEntry, move: Fail, now: float) -> LedgerEntry | None:
    owes_nothing = _before(entry) == "known"
    if move.attempt is None:  # from a status answer, which says nothing about a billed call
        if entry.state != "known" and not (entry.state == "claimed" and owes_nothing):
            return None
    elif entry.attempt != move.attempt or not (is_held(entry) or entry.state == "uncertain"):
        return None
    elif not owes_nothing:
        return _rest(entry, now)  # this call was free; what an earlier one cost is still open
    return _ended(entry, now, "failed", error=move.error)


def _doubt(entry: LedgerEntry, move: Doubt, now: float) -> LedgerEntry | None:
    # Claimed too: where no event announced byte 0, it may have left without having been armed.
    open_ = is_held(entry) or entry.state == "uncertain"
    if not open_ or entry.attempt != move.attempt:
        return None
    return _ended(entry, now, "uncertain", phase=move.phase, cause=move.cause)


_MOVES: dict[type, Any] = {
    Look: lambda entry, *_: entry,
    Remember: _remember,
    Claim: _claim,
    Arm: _arm,
    Renew: _renew,
    Store: _store,
    Release: _release,
    Fail: _fail,
    Doubt: _doubt,
}
