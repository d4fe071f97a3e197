"""The columns in which a SQL ledger keeps an entry or a submission, in order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from modelmax_async._models import Job, LedgerEntry, Submission

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
    """Return the entry of a row: the columns of `ENTRY`, and the body."""
    rest = dict(zip(_STATE, row[len(_JOB) : -1], strict=True))
    rest["acknowledged"] = bool(rest["acknowledged"])
    return LedgerEntry(job=_job(*row[: len(_JOB)]), body=row[-1], **rest)


def row_of(entry: LedgerEntry) -> tuple[Any, ...]:
    """Return the row of an entry; see `entry_of`."""
    job = entry.job
    paths = (job.status_url, job.response_url)
    columns = (job.model, job.request_id, *paths, job.submitted_at, job.key)
    return (*columns, *(getattr(entry, name) for name in _STATE), entry.body)


def submission_of(row: Sequence[Any]) -> Submission:
    """Return the submission of a row: the columns of `SUBMISSION`."""
    key, fingerprint, since, attempt, lease_until, lease, model, request_id, *paths = row
    job = None if model is None else Job(model, request_id, paths[0], paths[1], since, key)
    return Submission(
        fingerprint=fingerprint,
        since=since,
        attempt=attempt,
        lease_until=lease_until,
        lease=lease,
        job=job,
    )


def submission_row_of(key: str, entry: Submission) -> tuple[Any, ...]:
    """Return the row of a key's submission; see `submission_of`."""
    job = entry.job
    ids = (job.model, job.request_id, job.status_url, job.response_url) if job else (None,) * 4
    lease = (entry.lease_until, entry.lease)
    return (key, entry.fingerprint, entry.since, entry.attempt, *lease, *ids)
