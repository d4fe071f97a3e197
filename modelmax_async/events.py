"""The records that hooks receive, and a hook that logs them.

::

    AsyncQueueClient(hooks=[logging_hook, my_metrics])
"""

from modelmax_async._events import (
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
    VideoSaved,
    logging_hook,
)

__all__ = [
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
    "VideoSaved",
    "logging_hook",
]
