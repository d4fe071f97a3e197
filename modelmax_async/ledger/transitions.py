"""The state machine of a job's one billed call: pure decisions, without I/O or a clock.

Every ledger applies `step` in a transaction. `step` only records ``now``: an owner counts as
gone once another client has watched its lease stand still (``Claim.takeover``).
"""

from typing import Any, assert_never

import attrs
from attrs import evolve

from modelmax_async._api.endpoints import is_readable
from modelmax_async._models import Job, LedgerEntry, Value
from modelmax_async.ledger import moves
from modelmax_async.ledger.attempts import (
    abandoned_by_owner,
    before,
    ended,
    is_gone,
    is_held,
    leased,
    rest,
)

_TAKING_OVER = moves.Claim | moves.Fail | moves.Forget
#: The states that a user's decision can move.
_OWING = frozenset({"uncertain", "stored", "abandoned", "delivered"})


@attrs.frozen
class Step(Value):
    """The outcome of a move.

    Attributes:
        entry: the entry as it now is, or as it was before it was deleted.
        granted: whether the move was granted.
        deleted: whether the ledger has to delete the entry.
    """

    entry: LedgerEntry
    granted: bool
    deleted: bool = False


def job_step(entry: LedgerEntry | None, move: moves.Move, now: float) -> Step | None:
    """Apply one move to a job's entry.

    Args:
        entry: the entry as it was read, ``None`` if the ledger has none.
        move: the move that is asked for.
        now: the time of the ledger's clock, in seconds since the epoch.

    Returns:
        The entry to write back (the same object if nothing changed), or ``None`` if the
        ledger has no such job and the move does not bring one.
    """
    if entry is None:
        if not isinstance(move, moves.Remember | moves.Claim | moves.Store):
            return None
        heard = not isinstance(move, moves.Claim)  # a claim has a field for it
        entry = LedgerEntry(job=move.job, state="known", since=now, acknowledged=heard)
        if isinstance(move, moves.Remember):
            return Step(entry, granted=True)
    elif isinstance(move, _TAKING_OVER) and is_gone(entry, move.takeover):
        entry = abandoned_by_owner(entry, now)
    if _is_deleted(entry, move):
        return Step(entry, granted=True, deleted=True)
    after = _decide(entry, move, now)
    return Step(entry if after is None else after, granted=after is not None)


def _decide(entry: LedgerEntry, move: moves.Move, now: float) -> LedgerEntry | None:  # noqa: C901, PLR0911, PLR0912 - one for each move
    """Return the entry after the move, ``None`` if the move is refused."""
    match move:
        case moves.Look():
            return entry
        case moves.Remember():
            return _remember(entry, move)
        case moves.Claim():
            return _claim(entry, move, now)
        case moves.Arm():
            return _arm(entry, move, now)
        case moves.Renew():
            return _renew(entry, move, now)
        case moves.Store():
            return _store(entry, move, now)
        case moves.Release():
            return _release(entry, move, now)
        case moves.Fail():
            return _fail(entry, move, now)
        case moves.Uncertain():
            return _uncertain(entry, move, now)
        case moves.Forget():
            return _forget(entry, now)
        case moves.MarkSaved():
            return _mark_saved(entry, now)
        case moves.Prune():
            return _prune(entry, move, now)
        case moves.Reserve() | moves.Bind():
            return None  # they are about a key
        case _:
            assert_never(move)


def _remember(entry: LedgerEntry, move: moves.Remember) -> LedgerEntry | None:
    # The recorded model may be one that the server refused; it has acknowledged this one.
    renamed = entry.state == "known" and entry.job.model != move.job.model
    if entry.acknowledged and not renamed:
        return None
    job = _replaced(entry.job, move.job) if renamed else entry.job
    return evolve(entry, job=job, acknowledged=True)


def _replaced(old: Job, new: Job) -> Job:
    """Return the new job, with the submit time of the old one if it has none of its own."""
    return new if new.submitted_at is not None else evolve(new, submitted_at=old.submitted_at)


def _claim(entry: LedgerEntry, move: moves.Claim, now: float) -> LedgerEntry | None:
    decided = move.accept is not None and entry.attempt == move.accept
    accepted = decided and entry.state in _OWING and not _has_result(entry)
    if entry.state != "known" and not accepted:
        return None
    renewed = entry.state == "known" and move.acknowledged
    return evolve(
        leased(entry, move.lease, now),
        job=_replaced(entry.job, move.job) if renewed else entry.job,
        state="claimed",
        since=now,
        owner=move.owner,
        attempt=move.attempt,
        resting=entry.state,
        decided=move.accept if accepted else None,
        acknowledged=entry.acknowledged or move.acknowledged,
    )


def _has_result(entry: LedgerEntry) -> bool:
    """Whether the entry holds a readable result, which is never paid for again."""
    return entry.body is not None and is_readable(entry.body, entry.job)


def _arm(entry: LedgerEntry, move: moves.Arm, now: float) -> LedgerEntry | None:
    mine = entry.state == "claimed" and entry.attempt == move.attempt
    return evolve(leased(entry, move.lease, now), state="armed", since=now) if mine else None


def _renew(entry: LedgerEntry, move: moves.Renew, now: float) -> LedgerEntry | None:
    mine = is_held(entry) and entry.attempt == move.attempt
    return leased(entry, move.lease, now) if mine else None


def _store(entry: LedgerEntry, move: moves.Store, now: float) -> LedgerEntry | None:
    another = entry.attempt != move.attempt
    if entry.body is not None and (another or entry.body != move.body):
        # Two responses were paid for. A readable one replaces an unreadable one; otherwise the
        # first one stays, unless the second one is from the call in progress.
        readable = is_readable(move.body, entry.job)
        if _has_result(entry) and (another or not readable):
            return None
        if another and not readable:
            return None
    elif another and _continues(entry) and not is_readable(move.body, entry.job):
        # A late, unreadable response must not displace the call in progress.
        return evolve(entry, body=move.body, resting="stored")
    saved_at = entry.saved_at if entry.body == move.body else None
    paid: dict[str, Any] = {"attempt": move.attempt, "body": move.body, "saved_at": saved_at}
    return ended(entry, now, "stored", resting=None, decided=None, **paid)


def _continues(entry: LedgerEntry) -> bool:
    """Whether a call in progress continues after an earlier one turned out to be paid for.

    A call that was sent cannot be stopped; a decided one was meant to pay again anyway.
    """
    return entry.state == "armed" or (entry.state == "claimed" and entry.decided is not None)


def _is_open(entry: LedgerEntry, attempt: str) -> bool:
    return entry.attempt == attempt and (is_held(entry) or entry.state == "uncertain")


def _release(entry: LedgerEntry, move: moves.Release, now: float) -> LedgerEntry | None:
    # A proof stays a proof, even after another client has declared the owner gone.
    return rest(entry, now) if _is_open(entry, move.attempt) else None


def _fail(entry: LedgerEntry, move: moves.Fail, now: float) -> LedgerEntry | None:
    owes_nothing = before(entry) == "known"
    if move.attempt is None:  # from a status response, which proves nothing about a billed call
        if entry.state != "known" and not (entry.state == "claimed" and owes_nothing):
            return None
    elif not _is_open(entry, move.attempt):
        return None
    elif not owes_nothing:
        return rest(entry, now)  # this call was unbilled; an earlier one is still uncertain
    return ended(entry, now, "failed", error=move.error)


def _uncertain(entry: LedgerEntry, move: moves.Uncertain, now: float) -> LedgerEntry | None:
    # A claimed entry too: without an event for byte 0, it may have been sent without arming.
    if not _is_open(entry, move.attempt):
        return None
    return ended(entry, now, "uncertain", phase=move.phase, cause=move.cause)


def _is_deleted(entry: LedgerEntry, move: moves.Move) -> bool:
    """Whether the move deletes the entry, of which nothing is owed and nothing is paid."""
    if not isinstance(move, moves.Release) or not move.unknown or entry.acknowledged:
        return False
    return _is_open(entry, move.attempt) and before(entry) == "known"


def _forget(entry: LedgerEntry, now: float) -> LedgerEntry | None:
    if entry.state in {"abandoned", "failed"}:
        return entry
    if entry.state not in {"known", "uncertain"}:
        return None
    # The attempt gets another name, so that no earlier decision is about it.
    why = {"phase": entry.phase, "cause": entry.cause, "attempt": f"abandoned:{entry.attempt}"}
    return ended(entry, now, "abandoned", **why)


def _mark_saved(entry: LedgerEntry, now: float) -> LedgerEntry | None:
    if entry.state not in {"stored", "delivered"}:
        return None
    return entry if entry.saved_at is not None else evolve(entry, saved_at=now)


def _prune(entry: LedgerEntry, move: moves.Prune, now: float) -> LedgerEntry | None:
    if entry.state != "stored" or entry.saved_at is None or entry.saved_at > move.before:
        return None
    return ended(entry, now, "delivered", body=None)
