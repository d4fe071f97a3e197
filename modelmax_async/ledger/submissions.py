"""The state machine of a submit's key: pure decisions, without I/O or a clock.

A key is reserved before the submit is sent, and bound to the job once the server has accepted
it. A submit whose outcome is unknown may be sent again with the same key: the job that it may
have created is never billed, because its result is never fetched.
"""

from typing import Any

import attrs
from attrs import evolve

from modelmax_async._models import LedgerEntry, Submission, Value
from modelmax_async.ledger import moves
from modelmax_async.ledger.attempts import later_lease
from modelmax_async.ledger.transitions import Step, job_step


@attrs.frozen
class SubmitStep(Value):
    """The outcome of a move of a key.

    Attributes:
        entry: the submission as it now is, or as it was before it was deleted.
        granted: whether the move was granted.
        deleted: whether the ledger has to delete the submission, which frees the key.
    """

    entry: Submission
    granted: bool
    deleted: bool = False


def step(
    entry: LedgerEntry | Submission | None, move: moves.Move, now: float
) -> Step | SubmitStep | None:
    """Apply one move to what a ledger has recorded of a job, or of the key of a submit.

    Args:
        entry: the entry or submission as it was read, ``None`` if the ledger has none.
        move: the move that is asked for.
        now: the time of the ledger's clock, in seconds since the epoch.

    Returns:
        The entry to write back (the same object if nothing changed) or to delete, or ``None``
        if the ledger has none and the move does not bring one.
    """
    if isinstance(entry, Submission) or isinstance(move, moves.Reserve | moves.Bind):
        return submit_step(entry if isinstance(entry, Submission) else None, move, now)
    return job_step(entry, move, now)


def submit_step(entry: Submission | None, move: moves.Move, now: float) -> SubmitStep | None:
    """Apply one move to a key's submission; arguments and result are those of `step`."""
    if entry is None:
        if not isinstance(move, moves.Reserve | moves.Bind):
            return None
        entry = Submission(fingerprint=move.fingerprint, since=now)
    if _is_freed(entry, move):
        return SubmitStep(entry, granted=True, deleted=True)
    after = _decide(entry, move, now)
    return SubmitStep(entry if after is None else after, granted=after is not None)


def _decide(entry: Submission, move: moves.Move, now: float) -> Submission | None:
    """Return the submission after the move, ``None`` if the move is refused."""
    match move:
        case moves.Reserve():
            return _reserve(entry, move, now)
        case moves.Bind():
            return _bind(entry, move, now)
        case moves.Renew(attempt, lease) if entry.attempt == attempt:
            return evolve(entry, **_lease(entry, lease, now))
        case moves.Uncertain(attempt) if entry.attempt == attempt:
            return evolve(entry, attempt=None)
        case _:
            return None


def _is_freed(entry: Submission, move: moves.Move) -> bool:
    """Whether the move frees the key: no job was created, or the user has given it up."""
    match move:
        case moves.Release(attempt):
            return entry.attempt == attempt
        case moves.Forget(request_id):
            return entry.job is not None and entry.job.request_id == request_id
        case _:
            return False


def _lease(entry: Submission, lease: float, now: float) -> dict[str, Any]:
    until, length = later_lease(entry.lease_until, lease, now)
    return {"lease_until": until, "lease": length}


def _reserve(entry: Submission, move: moves.Reserve, now: float) -> Submission | None:
    free = entry.attempt is None or entry.lease_until == move.takeover
    if entry.fingerprint != move.fingerprint or entry.job is not None or not free:
        return None
    return evolve(entry, attempt=move.attempt, **_lease(entry, move.lease, now))


def _bind(entry: Submission, move: moves.Bind, now: float) -> Submission | None:
    if entry.fingerprint != move.fingerprint:
        return None
    since = now if move.job.submitted_at is None else move.job.submitted_at
    job = evolve(move.job, submitted_at=since)
    if entry.job is not None:
        return entry if entry.job == job else None
    return evolve(entry, since=since, attempt=None, job=job)


def as_known(submission: Submission) -> LedgerEntry | None:
    """Return the entry of a submitted job that has none yet; ``None`` without a job.

    Args:
        submission: the submission.
    """
    if submission.job is None:
        return None
    return LedgerEntry(job=submission.job, state="known", since=submission.since)
