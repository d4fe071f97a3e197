"""The records that hooks receive, and a hook that logs them.

::

    AsyncQueueClient(hooks=[logging_hook, my_metrics])

A hook is any callable that takes one record. It is called on the event loop, so it must not
block; what it raises is logged and goes no further.
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
    """The base of every record."""


@attrs.frozen
class JobSubmitted(Event):
    """A submit was answered with a job. Submits are not billed."""

    job: Job


@attrs.frozen
class StatusPolled(Event):
    """A status call was answered."""

    job: Job
    status: Status | str = attrs.field(converter=as_status)


@attrs.frozen
class PollFailed(Event):
    """A free call failed and is retried after ``delay`` seconds; ``cause`` says why."""

    job: Job
    cause: str
    delay: float


@attrs.frozen
class PollingPaused(Event):
    """The server asked for quiet: no poll of the client starts for ``seconds``."""

    seconds: float


@attrs.frozen
class BilledCallArmed(Event):
    """The first byte of a billed call goes out next."""

    job: Job
    attempt: str


@attrs.frozen
class ResultStored(Event):
    """A paid result arrived: this job was charged."""

    job: Job
    attempt: str


@attrs.frozen
class AnswerDiscarded(Event):
    """A paid answer arrived when the ledger had a readable one: this job was charged twice."""

    job: Job
    attempt: str


@attrs.frozen
class UnarmedAnswer(Event):
    """An answer arrived to a billed call whose first byte was never announced, nor armed.

    The HTTP library was patched, or replaced, after the client had seen it at work.
    """

    job: Job
    attempt: str


@attrs.frozen
class ClaimReleased(Event):
    """An attempt at the billed call provably cost nothing; ``cause`` says how it ended."""

    job: Job
    cause: str


@attrs.frozen
class ResultUncertain(Event):
    """A billed call has an unknown outcome. Somebody should look at it."""

    job: Job
    phase: str
    cause: str


@attrs.frozen
class LedgerFailed(Event):
    """The ledger could not record what happened; a paid result is kept in memory."""

    job: Job
    cause: str


@attrs.frozen
class VideoSaved(Event):
    """A video is complete on disk."""

    request_id: str
    path: str
    size: int


Hook = Callable[[Event], object]
ALARMS = (ResultUncertain, LedgerFailed, AnswerDiscarded, UnarmedAnswer)


def logging_hook(event: Event) -> None:
    """Log a record on the ``modelmax_async`` logger: alarms as errors, the rest at DEBUG."""
    level = logging.ERROR if isinstance(event, ALARMS) else logging.DEBUG
    _log.log(level, "%s", event)
