"""The event records of HTTP calls."""

import attrs

from modelmax_async._models import Job
from modelmax_async.events._records import CallKind, Event


@attrs.frozen(kw_only=True)
class CallEnded(Event):
    """An HTTP exchange ended. ``call`` tells which endpoint it was sent to (API §1 to §4).

    Args:
        call: ``"submit"``, ``"status"``, ``"result"`` (the billed call), or ``"content"``.
        method: the HTTP method.
        host: the host that it was sent to.
        port: the port.
        seconds: how long it took, from the moment when it was free to be sent; the record of a
            result is made after its outcome was recorded in the ledger.
        job: the job that it was about, if that is known.
        status_code: the HTTP status, ``None`` if no response was received.
        error: the name of the class of the exception that ended it or made its response
            unusable; ``None`` if there was none, also after an HTTP error status.
        status: the status word of a status response.
        attempt: the id of the billed call.
    """

    call: CallKind
    method: str
    host: str
    port: int
    seconds: float
    job: Job | None = None
    status_code: int | None = None
    error: str | None = None
    status: str | None = None
    attempt: str = ""


@attrs.frozen(kw_only=True)
class CallRetried(Event):
    """A submit, a single call or a download failed at no cost; it is retried.

    Args:
        call: as in `CallEnded`.
        cause: what happened.
        delay: seconds until it is sent again.
        model: the model, if it is known.
        job: the job that it was about, if that is known.
    """

    call: CallKind
    cause: str
    delay: float
    model: str | None = None
    job: Job | None = None
