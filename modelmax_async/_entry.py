"""What a ledger's entry says to somebody who wants the result."""

from __future__ import annotations

from modelmax_async._errors import JobFailedError, ResultUncertainError
from modelmax_async._models import Job, LedgerEntry, Result
from modelmax_async._wire import parse_result


def read_entry(entry: LedgerEntry, job: Job) -> Result | None:
    """Return the stored result; ``None`` where the entry says nothing final.

    Raises:
        JobFailedError, ResultUncertainError, InvalidResponseError: what it says instead.
    """
    if entry.state == "stored" and entry.body is not None:
        return parse_result(entry.body, job)
    if entry.state == "failed":
        raise JobFailedError(entry.error or "", job=job)
    if entry.state == "uncertain":
        raise ResultUncertainError(
            entry.cause or "unknown", job=job, phase=entry.phase or "sent", since=entry.since
        )
    return None
