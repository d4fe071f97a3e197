"""The lines of the logger ``modelmax_async``: a sentence for each record that is worth one.

The logger has no handler of the SDK's own, not even a `logging.NullHandler`: that would hide
what may have cost money from programs that do not configure logging at all.
"""

import logging
from collections.abc import Callable
from typing import Any

from modelmax_async._errors.sentences import plain
from modelmax_async._models import Job, Status
from modelmax_async.events import _records as records
from modelmax_async.events._calls import CallEnded, CallRetried
from modelmax_async.events._records import Event

LOGGER = logging.getLogger("modelmax_async")
#: Characters of a text from elsewhere that a line shows at most.
_MOST = 2000
#: What ends a wait without being news: the caller left, or another line tells it.
_QUIET = frozenset({None, "CancelledError", "JobFailedError", "GeneratorExit"})
Line = tuple[Any, ...]

#: The levels of records; others are logged at DEBUG.
LEVELS: dict[type[Event], int] = {
    records.AnswerDiscarded: logging.ERROR,
    records.EntryUnreadable: logging.ERROR,
    records.LedgerFailed: logging.ERROR,
    records.ResultUncertain: logging.ERROR,
    records.UnarmedAnswer: logging.ERROR,
    records.JobEnded: logging.INFO,
    records.JobSubmitted: logging.INFO,
    records.PollingPaused: logging.INFO,
    records.SubmitDiscarded: logging.INFO,
}


def logging_hook(event: Event) -> None:
    """Log ``event`` as a sentence on the logger ``modelmax_async``.

    Every client does this by itself: as one of its ``hooks``, it changes nothing. Records of
    what may have cost money are logged as errors, the submit and the end of a job at INFO, and
    the others at DEBUG.
    """
    level = _level(event)
    if not LOGGER.isEnabledFor(level):
        return
    line = _line(event)
    if line is None:
        return
    text, *arguments = line
    shown = [plain(each[:_MOST]) if isinstance(each, str) else each for each in arguments]
    LOGGER.log(level, text, *shown, extra=_extra(event))


def _level(event: Event) -> int:
    if isinstance(event, records.WaitEnded):
        return logging.DEBUG if event.error in _QUIET else logging.INFO
    return LEVELS.get(type(event), logging.DEBUG)


def _extra(event: Event) -> dict[str, str]:
    """Return the fields of a log record: for filters, and for handlers that write JSON."""
    extra = {"modelmax_event": type(event).__name__}
    job = getattr(event, "job", None)
    if isinstance(job, Job):
        extra |= {"modelmax_job": job.request_id, "modelmax_model": job.model}
    return extra


def _about(job: Job, text: str, *arguments: object) -> Line:
    return "job %s (%s)" + text, job.request_id, job.model, *arguments


def _line(event: Event) -> Line | None:
    """Return the text and its arguments; ``None`` if another line tells it."""
    write = _LINES.get(type(event))
    return None if write is None else write(event)


def _submitted(event: records.JobSubmitted) -> Line:
    if event.job.key is None:
        return _about(event.job, " was submitted to %s", event.host)
    return _about(event.job, " was submitted to %s, key %s", event.host, event.job.key)


def _job_ended(event: records.JobEnded) -> Line:
    text = ": %s"
    arguments: list[object] = [event.status]
    if event.polls:
        polls = f"{event.polls} poll" + "s" * (event.polls != 1)
        text += " after %.1f s and %s"
        arguments += [event.seconds, polls]
    if event.fetched:
        return _about(event.job, text + "; its result is paid for", *arguments)
    if event.status == Status.FAILED:
        text += ", not billed"
    elif not event.error:
        return _about(event.job, text + "; its result was not asked for", *arguments)
    else:
        text += "; its result was not received"
    return _about(event.job, text + ": %s", *arguments, event.error)


def _wait_ended(event: records.WaitEnded) -> Line:
    if event.error is None:
        return _about(event.job, ": a wait of %.1f s ended with its result", event.seconds)
    reason = f"{event.error}: {event.cause}" if event.cause else event.error
    return _about(event.job, ": a wait of %.1f s ended: %s", event.seconds, reason)


def _call_ended(event: CallEnded) -> Line:
    text = "%s %s"
    arguments: list[object] = [event.method, event.call]
    if event.job is not None:
        text += " of job %s (%s)"
        arguments += [event.job.request_id, event.job.model]
    code, ending = event.status_code, event.error or event.status
    arguments += [event.host, "no response" if code is None else f"HTTP {code}", event.seconds]
    text += " at %s: %s after %.3f s"
    return (text, *arguments) if ending is None else (text + ": %s", *arguments, ending)


def _call_retried(event: CallRetried) -> Line:
    about = "" if event.job is None else f" of job {event.job.request_id}"
    text = "the %s%s failed at no cost and is sent again in %.1f s: %s"
    return text, event.call, about, event.delay, event.cause


def _entry_unreadable(event: records.EntryUnreadable) -> Line:
    about = f"job {event.request_id}" if event.request_id else f"key {event.key}"
    text = (
        "%s: its row in the ledger cannot be read, and is missing from a list: %s. No billed "
        "call is made for it: correct the row, or restore the ledger from a backup"
    )
    return text, about, event.cause


#: Each writes the line of one kind of record. A `WaitStarted` has none, nor has a
#: `StatusPolled`, whose status is in the line of its call.
_LINES: dict[type[Event], Callable[[Any], Line]] = {
    records.AnswerDiscarded: lambda event: _about(
        event.job,
        " was charged twice: a response was dropped, because the ledger already had a readable "
        "one",
    ),
    records.BilledCallArmed: lambda event: _about(event.job, ": the billed call is sent"),
    CallEnded: _call_ended,
    CallRetried: _call_retried,
    records.ClaimReleased: lambda event: _about(event.job, " was not charged: %s", event.cause),
    records.EntryUnreadable: _entry_unreadable,
    records.JobEnded: _job_ended,
    records.JobSubmitted: _submitted,
    records.LedgerFailed: lambda event: _about(
        event.job, ": the ledger could not record what happened: %s", event.cause
    ),
    records.PollFailed: lambda event: _about(
        event.job,
        ": the %s call failed at no cost; the next one is in %.1f s: %s",
        event.call,
        event.delay,
        event.cause,
    ),
    records.PollingPaused: lambda event: (
        "the server asked for a pause: no poll starts for %.1f s",
        event.seconds,
    ),
    records.ResultStored: lambda event: _about(event.job, " was charged: its result arrived"),
    records.ResultUncertain: lambda event: _about(
        event.job,
        " may have been charged: the outcome of its billed call is uncertain (%s): %s. Check "
        "the usage of the account",
        event.phase,
        event.cause.rstrip("."),
    ),
    records.SubmitDiscarded: lambda event: _about(
        event.job,
        " already has the key %s: job %s of the same key is never fetched, and so never billed",
        event.job.key,
        event.discarded.request_id,
    ),
    records.UnarmedAnswer: lambda event: _about(
        event.job,
        ": its billed call was answered without being recorded first, because the HTTP library "
        "was patched after the client's first call",
    ),
    records.VideoSaved: lambda event: (
        "a video of job %s was saved to %s (%d bytes)",
        event.request_id,
        event.path,
        event.size,
    ),
    records.WaitEnded: _wait_ended,
}
