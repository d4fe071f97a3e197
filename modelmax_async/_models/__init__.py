"""The frozen values of the public API: jobs, status reports, results, ledger entries.

None of them holds a client, a connection or a key: store them, pickle them, send them to
another machine.
"""

from modelmax_async._models.entries import (
    UNFINISHED,
    LedgerEntry,
    LedgerState,
    Phase,
    Submission,
)
from modelmax_async._models.jobs import Job, Status, StatusReport, as_status
from modelmax_async._models.limits import ResourceLimits
from modelmax_async._models.requests import VideoParameters, VideoRequest
from modelmax_async._models.results import Failed, Outcome, Result, Succeeded, Usage, Video
from modelmax_async._models.usage import LedgerUsage, ModelUsage
from modelmax_async._models.value import Value

__all__ = [
    "UNFINISHED",
    "Failed",
    "Job",
    "LedgerEntry",
    "LedgerState",
    "LedgerUsage",
    "ModelUsage",
    "Outcome",
    "Phase",
    "ResourceLimits",
    "Result",
    "Status",
    "StatusReport",
    "Submission",
    "Succeeded",
    "Usage",
    "Value",
    "Video",
    "VideoParameters",
    "VideoRequest",
    "as_status",
]

for _public in (Status, *Value.__subclasses__(), *Outcome.__subclasses__()):
    _public.__module__ = "modelmax_async"
