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
    """A job was submitted. Submits are not billed.

    Attributes:
        job: the new job.
    """

    job: Job


@attrs.frozen
class StatusPolled(Event):
    """A status call returned.

    Attributes:
        job: the job.
        status: its status, or the server's word if it is not a documented one.
    """

    job: Job
    status: Status | str = attrs.field(converter=as_status)


@attrs.frozen
class PollFailed(Event):
    """A free call failed and will be retried.

    Attributes:
        job: the job.
        cause: what happened, in words.
        delay: seconds until the next attempt.
    """

    job: Job
    cause: str
    delay: float


@attrs.frozen
class PollingPaused(Event):
    """The server asked the client to wait: none of its polls starts until then.

    Attributes:
        seconds: the length of the pause.
    """

    seconds: float


@attrs.frozen
class BilledCallArmed(Event):
    """The first byte of a billed call is sent next.

    Attributes:
        job: the job.
        attempt: the id of the call.
    """

    job: Job
    attempt: str


@attrs.frozen
class ResultStored(Event):
    """A paid response arrived: this job was charged.

    Attributes:
        job: the job.
        attempt: the id of the call.
    """

    job: Job
    attempt: str


@attrs.frozen
class AnswerDiscarded(Event):
    """A second paid response was dropped, the stored one is readable: charged twice.

    Attributes:
        job: the job.
        attempt: the id of the second call.
    """

    job: Job
    attempt: str


@attrs.frozen
class UnarmedAnswer(Event):
    """A billed call was answered, but the HTTP library never reported its first byte.

    So it was not armed. The library was patched or replaced after the client's first call.

    Attributes:
        job: the job.
        attempt: the id of the call.
    """

    job: Job
    attempt: str


@attrs.frozen
class ClaimReleased(Event):
    """An attempt at the billed call is proven to be unbilled.

    Attributes:
        job: the job.
        cause: what happened, in words.
    """

    job: Job
    cause: str


@attrs.frozen
class ResultUncertain(Event):
    """The outcome of a billed call is uncertain: check the account's usage.

    Attributes:
        job: the job.
        phase: ``"sent"``, or ``"answered"`` once bytes of the response had arrived.
        cause: what happened, in words.
    """

    job: Job
    phase: str
    cause: str


@attrs.frozen
class LedgerFailed(Event):
    """The ledger could not be written; a paid response stays in memory until it can.

    Attributes:
        job: the job.
        cause: what happened, in words.
    """

    job: Job
    cause: str


@attrs.frozen
class VideoSaved(Event):
    """A video was saved to disk.

    Attributes:
        request_id: the id of its job.
        path: the path of the file.
        size: its size in bytes.
    """

    request_id: str
    path: str
    size: int


Hook = Callable[[Event], object]
ALARMS = (ResultUncertain, LedgerFailed, AnswerDiscarded, UnarmedAnswer)


def logging_hook(event: Event) -> None:
    """Log a record on the ``modelmax_async`` logger: alarms as errors, the rest at DEBUG.

    Args:
        event: the record.
    """
    level = logging.ERROR if isinstance(event, ALARMS) else logging.DEBUG
    _log.log(level, "%s", event)
