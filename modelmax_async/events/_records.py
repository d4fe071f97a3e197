"""The event records. Those of hot paths are made only if a hook or the logger wants them."""

from collections.abc import Callable
from typing import Literal

import attrs

from modelmax_async._models import Job, Phase, Status, Value, as_status

CallKind = Literal["submit", "status", "result", "content"]


@attrs.frozen
class Event(Value):
    """The base of all records."""


@attrs.frozen
class JobSubmitted(Event):
    """The ``job`` was submitted to the server ``host``. Submits are not billed."""

    job: Job
    host: str = ""


@attrs.frozen
class SubmitDiscarded(Event):
    """A second submit with one key also created a job: it is dropped, and never fetched.

    ``job`` is the one that was recorded first, ``discarded`` the other one.
    """

    job: Job
    discarded: Job


@attrs.frozen
class WaitStarted(Event):
    """A caller began to wait for the result of ``job``.

    The record is made in the coroutine that waits, or in one that it started, so that a hook
    finds the context variables of the caller. ``wait`` is a number that no other wait of this
    process has; the `WaitEnded` of the same wait has it too. `AsyncQueueClient.gather_results`
    and the like wait once for each job.
    """

    job: Job
    wait: int


@attrs.frozen
class WaitEnded(Event):
    """The ``wait`` for ``job`` ended after some ``seconds``.

    ``error`` is the name of the class of the error that ended it, such as ``"JobTimeoutError"``
    (``"CancelledError"`` if the caller left), and ``cause`` its text; ``error`` is ``None`` if
    the caller received the result.
    """

    job: Job
    wait: int
    seconds: float
    error: str | None = None
    cause: str = ""


@attrs.frozen
class StatusPolled(Event):
    """A status call for ``job`` returned ``status``: a `Status`, or an undocumented word."""

    job: Job
    status: Status | str = attrs.field(converter=as_status)


@attrs.frozen
class PollFailed(Event):
    """A call for ``job`` failed at no cost (``cause``); it is retried after ``delay`` seconds.

    ``call`` is ``"status"``, or ``"result"`` if a billed call is proven to be unbilled.
    """

    job: Job
    cause: str
    delay: float
    call: CallKind = "status"


@attrs.frozen
class PollingPaused(Event):
    """The server asked the client to wait: none of its polls starts for ``seconds``."""

    seconds: float


@attrs.frozen(kw_only=True)
class JobEnded(Event):
    """A job is COMPLETED or FAILED, and the client is done with it.

    It is made when the polling of the job ends, and by `AsyncQueueClient.result`.

    Args:
        job: the job.
        status: `Status.COMPLETED` or `Status.FAILED`.
        seconds: since it was submitted, or since the client began to wait if that is not known.
        polls: how many polls succeeded; 0 if only its result was asked for.
        fetched: whether the client has its result, which is paid for.
        error: the server's text for a FAILED job; otherwise why the result was not fetched.
        queue_seconds: from the submit to the first poll that saw it IN_PROGRESS.
        generation_seconds: from that poll to the first one that saw that it had ended.
        lag_seconds: from the last poll that saw it unfinished to the first one that saw that it
            had ended: the end was noticed this late at most.

    A time is ``None`` if the polls do not tell it. They tell each of these times only as
    exactly as they were close together.
    """

    job: Job
    status: Status | str = attrs.field(converter=as_status)
    seconds: float
    polls: int
    fetched: bool
    error: str = ""
    queue_seconds: float | None = None
    generation_seconds: float | None = None
    lag_seconds: float | None = None


@attrs.frozen
class BilledCallArmed(Event):
    """The first byte of the billed call ``attempt`` for ``job`` is sent next.

    ``url`` is its URL without a query. The call ends in a `ResultStored`, `AnswerDiscarded`,
    `ClaimReleased` or `ResultUncertain` with the same ``attempt``, and then a `CallEnded`.
    """

    job: Job
    attempt: str
    url: str = ""


@attrs.frozen
class ResultStored(Event):
    """The paid response to the call ``attempt`` arrived: ``job`` was charged."""

    job: Job
    attempt: str


@attrs.frozen
class AnswerDiscarded(Event):
    """The paid response to the call ``attempt`` was dropped: ``job`` was charged twice.

    The ledger already had a readable response.
    """

    job: Job
    attempt: str


@attrs.frozen
class UnarmedAnswer(Event):
    """The call ``attempt`` for ``job`` was answered, but its first byte was never reported.

    So it was not armed: the HTTP library was patched or replaced after the client's first call.
    """

    job: Job
    attempt: str


@attrs.frozen
class ClaimReleased(Event):
    """The billed call ``attempt`` for ``job`` is proven to be unbilled; ``cause`` says why."""

    job: Job
    cause: str
    attempt: str = ""


@attrs.frozen
class ResultUncertain(Event):
    """The outcome of the billed call ``attempt`` for ``job`` is uncertain: check the account.

    ``phase`` is ``"sent"``, or ``"answered"`` once bytes of the response had arrived; ``cause``
    says what happened.
    """

    job: Job
    phase: Phase
    cause: str
    attempt: str = ""


@attrs.frozen
class LedgerFailed(Event):
    """The ledger could not record what happened to ``job``, because of ``cause``.

    A paid response stays in memory until the ledger has it.
    """

    job: Job
    cause: str


@attrs.frozen
class EntryUnreadable(Event):
    """A row of the ledger cannot be read: the list that was asked for lacks it.

    It is never taken for a job that may be fetched: each call for it raises a `LedgerError`.

    Args:
        request_id: the request id in the row, empty if there is none.
        key: the key of a submit in the row, ``None`` if there is none.
        cause: what is wrong with the row.
    """

    request_id: str
    key: str | None
    cause: str


@attrs.frozen
class VideoSaved(Event):
    """A video of the job ``request_id`` was saved to the file ``path``, ``size`` bytes long."""

    request_id: str
    path: str
    size: int


Hook = Callable[[Event], object]
