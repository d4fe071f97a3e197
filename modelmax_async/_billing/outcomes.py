"""What settling a job returns: its result, or the reason that there is none yet."""

from __future__ import annotations

import attrs

from modelmax_async._api.endpoints import parse_result
from modelmax_async._billing.verdicts import NotReady, Unbilled
from modelmax_async._errors import (
    JobError,
    JobFailedError,
    ResultDroppedError,
    ResultUncertainError,
)
from modelmax_async._errors.sentences import clause
from modelmax_async._models import Job, LedgerEntry, Result


@attrs.frozen
class Held:
    """Another attempt at the billed call is under way: look at the job again soon."""


#: What the settler returns.
Settled = Result | Held | NotReady | Unbilled


def read_entry(entry: LedgerEntry, job: Job, *, also: str = "") -> Result | None:
    """Return the stored result; ``None`` if the entry says nothing final.

    ``also`` is what was learnt since, for the text of a `ResultUncertainError`.

    Raises: JobFailedError, ResultUncertainError, ResultDroppedError, InvalidResponseError; a
    plain JobError for a job that was given up before it was billed.
    """
    if entry.state == "stored" and entry.body is not None:
        return parse_result(entry.body, job)
    if entry.state == "failed":
        raise JobFailedError(entry.error or "", job=job)
    if entry.state == "delivered":
        raise ResultDroppedError(job=job)
    if entry.state == "abandoned" and entry.phase is None:
        raise JobError(
            "you gave it up with forget(), and it was not billed. result(job, "
            "accept_second_charge=True) fetches it all the same",
            job=job,
        )
    if entry.state in {"uncertain", "abandoned"}:
        abandoned = entry.state == "abandoned"
        causes = (entry.cause or "unknown cause", also, abandoned and "you abandoned the job")
        raise ResultUncertainError(
            "; ".join(clause(cause) for cause in causes if cause),
            job=job,
            phase=entry.phase or "sent",
            since=entry.since,
            attempt=None
            if abandoned
            else entry.attempt,  # no client decides about it by itself
        )
    return None
