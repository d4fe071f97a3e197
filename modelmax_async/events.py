"""The records that hooks receive, and a hook that logs them.

::

    AsyncQueueClient(hooks=[logging_hook, my_metrics])
"""

from modelmax_async._events import (
    AnswerDiscarded,
    BilledCallArmed,
    ClaimReleased,
    Event,
    Hook,
    JobSubmitted,
    LedgerFailed,
    PollFailed,
    PollingPaused,
    ResultStored,
    ResultUncertain,
    StatusPolled,
    UnarmedAnswer,
    VideoSaved,
    logging_hook,
)

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
