"""What a ledger's entry says to those who want the result."""

from __future__ import annotations

from typing import Literal

import attrs

from modelmax_async._api.endpoints import parse_result
from modelmax_async._errors import (
    JobFailedError,
    ModelMaxError,
    ResultDroppedError,
    ResultUncertainError,
)
from modelmax_async._models import Job, LedgerEntry, Result


@attrs.frozen
class Again:
    """No result yet, and nothing was billed: why, and the error if it should go on."""

    reason: Literal["held", "unbilled", "not ready"]
    error: ModelMaxError | None = None
    status: str | None = None


def read_entry(entry: LedgerEntry, job: Job, *, also: str = "") -> Result | None:
    """Return the stored result; ``None`` where the entry says nothing final.

    Args:
        entry: what the ledger holds.
        job: the job as the caller knows it.
        also: what has been learnt since, for the text of a `ResultUncertainError`.

    Raises:
        JobFailedError, ResultUncertainError, ResultDroppedError, InvalidResponseError: what it
            says instead.
    """
    if entry.state == "stored" and entry.body is not None:
        return parse_result(entry.body, job)
    if entry.state == "failed":
        raise JobFailedError(entry.error or "", job=job)
    if entry.state == "delivered":
        raise ResultDroppedError(job=job)
    if entry.state in {"uncertain", "abandoned"}:
        given_up = entry.state == "abandoned"
        causes = (
            entry.cause or "unknown",
            also,
            given_up and "you gave the job up",
        )
        raise ResultUncertainError(
            "; ".join(cause for cause in causes if cause),
            job=job,
            phase=entry.phase or "sent",
            since=entry.since,
            attempt=None if given_up else entry.attempt,  # no client decides about it by itself
        )
    return None
