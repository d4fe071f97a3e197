"""What there is to say to somebody who wants a result that is not here yet, or is."""

from __future__ import annotations

from typing import Literal

import attrs

from modelmax_async._errors import JobFailedError, ModelMaxError, ResultUncertainError
from modelmax_async._models import Job, LedgerEntry, Result
from modelmax_async._wire import parse_result


@attrs.frozen
class Again:
    """No result yet, and nothing was billed: why, and the error if it should go on."""

    reason: Literal["held", "unbilled", "not ready"]
    error: ModelMaxError | None = None
    status: str | None = None


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
