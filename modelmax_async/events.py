"""The event records that hooks receive, and a hook that logs them.

::

    AsyncQueueClient(hooks=[logging_hook, my_metrics])

A hook is any callable that takes one record. It is called on the event loop, so it must not
block. An exception that it raises is logged and otherwise ignored.
"""

import logging
from collections.abc import Callable

import attrs

from modelmax_async._models import Job, Status, Value, as_status

__all__ = [
    "AnswerDiscarded",
    "BilledCallArmed",
    "ClaimReleased",
    "Event",
    "Hook",
    "JobSubmitted",
    "LedgerFailed",
    "PollFailed",
    "PollingPaused",
    "ResultStored",
    "ResultUncertain",
    "StatusPolled",
    "SubmitDiscarded",
    "UnarmedAnswer",
    "VideoSaved",
    "logging_hook",
]

_log = logging.getLogger("modelmax_async")


@attrs.frozen
class Event(Value):
    """The base of all records."""


@attrs.frozen
class JobSubmitted(Event):
    """The ``job`` was submitted. Submits are not billed."""

    job: Job


@attrs.frozen
class SubmitDiscarded(Event):
    """A second submit with one key also created a job: it is dropped, and never fetched.

    ``job`` is the one that was recorded first, ``discarded`` the other one.
    """

    job: Job
    discarded: Job


@attrs.frozen
class StatusPolled(Event):
    """A status call for ``job`` returned ``status``: a `Status`, or an undocumented word."""

    job: Job
    status: Status | str = attrs.field(converter=as_status)


@attrs.frozen
class PollFailed(Event):
    """A free call for ``job`` failed (``cause``); it is retried after ``delay`` seconds."""

    job: Job
    cause: str
    delay: float


@attrs.frozen
class PollingPaused(Event):
    """The server asked the client to wait: none of its polls starts for ``seconds``."""

    seconds: float


@attrs.frozen
class BilledCallArmed(Event):
    """The first byte of the billed call ``attempt`` for ``job`` is sent next."""

    job: Job
    attempt: str


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
    """A billed call for ``job`` is proven to be unbilled; ``cause`` says how it ended."""

    job: Job
    cause: str


@attrs.frozen
class ResultUncertain(Event):
    """The outcome of a billed call for ``job`` is uncertain: check the account's usage.

    ``phase`` is ``"sent"``, or ``"answered"`` once bytes of the response had arrived; ``cause``
    says what happened.
    """

    job: Job
    phase: str
    cause: str


@attrs.frozen
class LedgerFailed(Event):
    """The ledger could not record what happened to ``job``, because of ``cause``.

    A paid response stays in memory until the ledger has it.
    """

    job: Job
    cause: str


@attrs.frozen
class VideoSaved(Event):
    """A video of the job ``request_id`` was saved to the file ``path``, ``size`` bytes long."""

    request_id: str
    path: str
    size: int


Hook = Callable[[Event], object]
ALARMS = (ResultUncertain, LedgerFailed, AnswerDiscarded, UnarmedAnswer)


def logging_hook(event: Event) -> None:
    """Log ``event`` on the ``modelmax_async`` logger: alarms as errors, others at DEBUG."""
    level = logging.ERROR if isinstance(event, ALARMS) else logging.DEBUG
    _log.log(level, "%s", event)
