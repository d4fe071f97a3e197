"""The columns in which a SQL ledger keeps an entry or a submission, in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from modelmax_async._models import Job, LedgerEntry, Submission
from modelmax_async.ledger.rows import UnreadableRowError, check_entry, check_submission, finite

_JOB = ("model", "request_id", "status_url", "response_url", "submitted_at", "submit_key")
_STATE = (
    "state",
    "since",
    "owner",
    "attempt",
    "lease_until",
    "lease",
    "resting",
    "decided",
    "phase",
    "cause",
    "error",
    "acknowledged",
    "saved_at",
)
#: The columns of an entry without its body, which is the last one.
ENTRY = (*_JOB, *_STATE)
#: The columns of a submission. Its time of submit is ``since``.
SUBMISSION = (
    "submit_key",
    "fingerprint",
    "since",
    "attempt",
    "lease_until",
    "lease",
    "model",
    "request_id",
    "status_url",
    "response_url",
)


@lru_cache(maxsize=4096)
def _job(*columns: Any) -> Job:
    """Return the job of a row: it is read again and again, and checking it is slow."""
    return Job(*columns)


def entry_of(row: Sequence[Any]) -> LedgerEntry:
    """Return the entry of a row: the columns of `ENTRY`, and the body.

    Raises:
        UnreadableRowError: for a row that no ledger writes.
    """
    rest = dict(zip((*_STATE, "body"), row[len(_JOB) :], strict=True))
    try:
        check_entry(rest)
        job = _job(*row[: len(_JOB)])
    except ValueError as exc:
        raise UnreadableRowError(exc, request_id=row[1], key=row[5]) from None
    rest["acknowledged"] = bool(rest["acknowledged"])
    rest["lease"], rest["lease_until"] = finite(rest["lease"]), finite(rest["lease_until"])
    return LedgerEntry(job=job, **rest)


def row_of(entry: LedgerEntry) -> tuple[Any, ...]:
    """Return the row of an entry; see `entry_of`."""
    job = entry.job
    paths = (job.status_url, job.response_url)
    columns = (job.model, job.request_id, *paths, job.submitted_at, job.key)
    return (*columns, *(getattr(entry, name) for name in _STATE), entry.body)


def submission_of(row: Sequence[Any]) -> Submission:
    """Return the submission of a row: the columns of `SUBMISSION`.

    Raises:
        UnreadableRowError: for a row that no ledger writes.
    """
    key, fingerprint, since, attempt, lease_until, lease, model, request_id, *paths = row
    try:
        check_submission(dict(zip(SUBMISSION, row, strict=True)))
        job = None if model is None else Job(model, request_id, paths[0], paths[1], since, key)
    except ValueError as exc:
        raise UnreadableRowError(exc, request_id=request_id, key=key) from None
    return Submission(
        fingerprint=fingerprint,
        since=since,
        attempt=attempt,
        lease_until=finite(lease_until),
        lease=finite(lease),
        job=job,
    )


def submission_row_of(key: str, entry: Submission) -> tuple[Any, ...]:
    """Return the row of a key's submission; see `submission_of`."""
    job = entry.job
    ids = (job.model, job.request_id, job.status_url, job.response_url) if job else (None,) * 4
    lease = (entry.lease_until, entry.lease)
    return (key, entry.fingerprint, entry.since, entry.attempt, *lease, *ids)
