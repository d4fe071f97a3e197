"""What happens to a job's one billed call: pure decisions, no I/O, no clock.

`step` is the state machine that every ledger applies inside one transaction.
"""

from __future__ import annotations

from typing import Any

import attrs
from attrs import evolve

from modelmax_async._models import Job, LedgerEntry, LedgerState, Phase

GONE = "the process that made the call ended, or stood still, before it recorded an answer"


@attrs.frozen
class Remember:
    """A job was submitted, or is waited for."""

    job: Job


@attrs.frozen
class Claim:
    """Somebody wants to make the billed call.

    ``accept`` names the attempt whose unknown or unreadable outcome the user has decided
    to pay for again; without it, only a job that owes no answer can be claimed.
    """

    job: Job
    owner: str
    attempt: str
    lease: float
    accept: str | None = None


@attrs.frozen
class Arm:
    """The next thing on the wire is the first byte of this attempt."""

    attempt: str
    lease: float


@attrs.frozen
class Renew:
    """The owner of this attempt is alive."""

    attempt: str
    lease: float


@attrs.frozen
class Store:
    """The paid answer is here. It is kept even by a ledger that has lost the entry."""

    job: Job
    attempt: str
    body: bytes


@attrs.frozen
class Release:
    """This attempt provably billed nothing."""

    attempt: str


@attrs.frozen
class Fail:
    """The server says FAILED, which is never billed; ``attempt`` when it said so to one."""

    error: str
    attempt: str | None = None


@attrs.frozen
class Doubt:
    """This attempt was sent, and no usable answer came."""

    attempt: str
    phase: Phase
    cause: str


Move = Remember | Claim | Arm | Renew | Store | Release | Fail | Doubt


@attrs.frozen
class Step:
    """What a move came to: the entry as it now is, and whether the move was granted."""

    entry: LedgerEntry
    granted: bool


def step(entry: LedgerEntry | None, move: Move, now: float) -> Step | None:
    """Apply one move to what the ledger holds of a job.

    Args:
        entry: the entry as it was read, ``None`` when the ledger has none.
        move: what somebody wants.
        now: the ledger's clock, seconds since the epoch.

    Returns:
        The entry to write back (the same object where nothing changed), or ``None``
        when there is no such job and the move does not bring one.
    """
    if entry is None:
        if not isinstance(move, Remember | Claim | Store):
            return None
        entry = LedgerEntry(job=move.job, state="known", since=now)
        if isinstance(move, Remember):
            return Step(entry, granted=True)
    if isinstance(move, Remember | Claim | Fail):
        entry = observed(entry, now)
    after = _MOVES[type(move)](entry, move, now)
    return Step(entry if after is None else after, granted=after is not None)


def observed(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Return the entry as others must take it, once the lease of its owner has run out.

    Armed by one who is gone is uncertain; claimed by one who is gone is as it was before.
    """
    if entry.lease_until > now:
        return entry
    if entry.state == "claimed":
        return _resting(entry, now)
    if entry.state == "armed":
        since = entry.lease_until
        return evolve(entry, state="uncertain", since=since, phase="sent", cause=GONE)
    return entry


def _resting(entry: LedgerEntry, now: float) -> LedgerEntry:
    """Return the entry as it was before the attempt: free, or still owing a decision."""
    state: LedgerState
    state = "uncertain" if entry.phase else "stored" if entry.body is not None else "known"
    return evolve(entry, state=state, since=now, owner=None, lease_until=0.0)


def _claim(entry: LedgerEntry, move: Claim, now: float) -> LedgerEntry | None:
    decided = move.accept is not None and entry.attempt == move.accept
    accepted = decided and entry.state in {"uncertain", "stored"}
    if entry.state != "known" and not accepted:
        return None
    return evolve(
        entry,
        state="claimed",
        since=now,
        owner=move.owner,
        attempt=move.attempt,
        lease_until=now + move.lease,
    )


def _arm(entry: LedgerEntry, move: Arm, now: float) -> LedgerEntry | None:
    held = entry.state == "claimed" and entry.attempt == move.attempt
    if not held or entry.lease_until <= now:
        return None
    return evolve(entry, state="armed", since=now, lease_until=now + move.lease)


def _renew(entry: LedgerEntry, move: Renew, now: float) -> LedgerEntry | None:
    alive = entry.state == "armed" or (entry.state == "claimed" and entry.lease_until > now)
    if not alive or entry.attempt != move.attempt:
        return None
    return evolve(entry, lease_until=now + move.lease)


def _store(entry: LedgerEntry, move: Store, now: float) -> LedgerEntry | None:
    if entry.state == "stored" and entry.attempt != move.attempt:
        return None  # two answers were paid for: the first is as good, and is being served
    return evolve(
        entry,
        state="stored",
        since=now,
        attempt=move.attempt,
        body=move.body,
        owner=None,
        lease_until=0.0,
        phase=None,
        cause=None,
    )


def _release(entry: LedgerEntry, move: Release, now: float) -> LedgerEntry | None:
    if entry.state not in {"claimed", "armed"} or entry.attempt != move.attempt:
        return None
    return _resting(entry, now)


def _fail(entry: LedgerEntry, move: Fail, now: float) -> LedgerEntry | None:
    another = entry.state == "armed" and entry.attempt != move.attempt
    if another or entry.state in {"stored", "failed"}:
        return None
    return evolve(entry, state="failed", since=now, error=move.error, owner=None)


def _doubt(entry: LedgerEntry, move: Doubt, now: float) -> LedgerEntry | None:
    if entry.state not in {"armed", "uncertain"} or entry.attempt != move.attempt:
        return None
    return evolve(
        entry,
        state="uncertain",
        since=now,
        phase=move.phase,
        cause=move.cause,
        owner=None,
        lease_until=0.0,
    )


_MOVES: dict[type, Any] = {
    Claim: _claim,
    Arm: _arm,
    Renew: _renew,
    Store: _store,
    Release: _release,
    Fail: _fail,
    Doubt: _doubt,
    Remember: lambda *_: None,
}
