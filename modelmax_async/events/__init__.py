"""The event records that hooks receive, and a hook that logs them.

::

    AsyncQueueClient(hooks=[my_metrics])

A hook is any callable that takes one record. It is called on the event loop, so it must not
block. An exception that it raises is logged and otherwise ignored. Every client also logs its
records on the logger ``modelmax_async``, with or without hooks.
"""

from modelmax_async.events._calls import CallEnded, CallRetried
from modelmax_async.events._log import logging_hook
from modelmax_async.events._records import (
    AnswerDiscarded,
    BilledCallArmed,
    CallKind,
    ClaimReleased,
    EntryUnreadable,
    Event,
    Hook,
    JobEnded,
    JobSubmitted,
    LedgerFailed,
    PollFailed,
    PollingPaused,
    ResultStored,
    ResultUncertain,
    StatusPolled,
    SubmitDiscarded,
    UnarmedAnswer,
    VideoSaved,
    WaitEnded,
    WaitStarted,
)

__all__ = [
    "AnswerDiscarded",
    "BilledCallArmed",
    "CallEnded",
    "CallKind",
    "CallRetried",
    "ClaimReleased",
    "EntryUnreadable",
    "Event",
    "Hook",
    "JobEnded",
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
    "WaitEnded",
    "WaitStarted",
    "logging_hook",
]

for _public in (Event, *Event.__subclasses__(), logging_hook):
    _public.__module__ = __name__
