"""One frozen record for each thing worth knowing; hooks receive them.

A hook is any callable that takes one record. It is called on the event loop, so it must not
block; what it raises is logged and goes no further.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from modelmax_async._models import Job, Status

logger = logging.getLogger("modelmax_async")


@attrs.frozen
class Event:
    """The base of every record."""


@attrs.frozen
class JobSubmitted(Event):
    """A submit was answered with a job. Submits are not billed."""

    job: Job


@attrs.frozen
class StatusPolled(Event):
    """A status call was answered."""

    job: Job
    status: Status | str


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
_ALARMS = (ResultUncertain, LedgerFailed, AnswerDiscarded, UnarmedAnswer)


def logging_hook(event: Event) -> None:
    """Log a record on the ``modelmax_async`` logger: alarms as errors, the rest at DEBUG."""
    level = logging.ERROR if isinstance(event, _ALARMS) else logging.DEBUG
    logger.log(level, "%s", event)


T = TypeVar("T")


def call_safely(callback: Callable[[T], object], value: T) -> None:
    """Call a user's callback; what it raises is logged and goes no further.

    It must not come between a paid answer and its ledger, nor end another job's waiting.
    """
    try:
        callback(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:
        with contextlib.suppress(Exception):  # a broken log handler is no reason either
            logger.exception("a callback failed on %s", type(value).__name__)


class Hooks:
    """Calls every hook with every record; an error in one reaches nobody else."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    def emit(self, event: Event) -> None:
        """Hand the record to every hook. Alarms are logged even when there is none."""
        if isinstance(event, _ALARMS) and logging_hook not in self._hooks:
            call_safely(logging_hook, event)
        for hook in self._hooks:
            call_safely(hook, event)
