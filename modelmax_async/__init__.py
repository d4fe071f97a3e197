"""An asyncio-native client for ModelMax's video queue: each finished job is billed once.

Public names are loaded at their first use, so that a program that only needs the errors or the
values does not import the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from modelmax_async._version import VERSION as __version__

#: Where the public names are, the cheapest module first.
_HOMES = (
    "_errors",
    "_models",
    "_polling.forecast",
    "_polling.policies",
    "_runtime.retry",
    "ledger",
    "_download",
    "_client",
)
_MODULES = ("emulator", "events", "ledger", "testing")

__all__ = [
    "APIError",
    "AdaptivePolicy",
    "AsyncQueueClient",
    "AuthenticationError",
    "BadRequestError",
    "ClientStateError",
    "ConfigurationError",
    "DownloadError",
    "Expected",
    "Failed",
    "Forecast",
    "GatherError",
    "InconsistentStateError",
    "InsufficientBalanceError",
    "InvalidResponseError",
    "Job",
    "JobError",
    "JobFailedError",
    "JobTimeoutError",
    "KeyConflictError",
    "Ledger",
    "LedgerEntry",
    "LedgerError",
    "LedgerUsage",
    "MemoryLedger",
    "ModelMaxError",
    "ModelUsage",
    "NotFoundError",
    "NotReadyError",
    "Outcome",
    "PermissionDeniedError",
    "PollPolicy",
    "PollingPolicy",
    "PostgresLedger",
    "RateLimitError",
    "RequestTimeoutError",
    "ResourceLimits",
    "Result",
    "ResultDroppedError",
    "ResultUncertainError",
    "RetryPolicy",
    "SQLiteLedger",
    "ServerError",
    "Status",
    "StatusReport",
    "SubmitUncertainError",
    "Succeeded",
    "TransportError",
    "Usage",
    "Video",
    "VideoParameters",
    "VideoRequest",
    "VideoStream",
    "WaitState",
    "__version__",
]


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]


if TYPE_CHECKING:
    from modelmax_async._client import AsyncQueueClient
    from modelmax_async._download import VideoStream
    from modelmax_async._errors import (
        APIError,
        AuthenticationError,
        BadRequestError,
        ClientStateError,
        ConfigurationError,
        DownloadError,
        GatherError,
        InconsistentStateError,
        InsufficientBalanceError,
        InvalidResponseError,
        JobError,
        JobFailedError,
        JobTimeoutError,
        KeyConflictError,
        LedgerError,
        ModelMaxError,
        NotFoundError,
        NotReadyError,
        PermissionDeniedError,
        RateLimitError,
        RequestTimeoutError,
        ResultDroppedError,
        ResultUncertainError,
        ServerError,
        SubmitUncertainError,
        TransportError,
    )
    from modelmax_async._models import (
        Failed,
        Job,
        LedgerEntry,
        LedgerUsage,
        ModelUsage,
        Outcome,
        ResourceLimits,
        Result,
        Status,
        StatusReport,
        Succeeded,
        Usage,
        Video,
        VideoParameters,
        VideoRequest,
    )
    from modelmax_async._polling.forecast import Expected, Forecast
    from modelmax_async._polling.policies import (
        AdaptivePolicy,
        PollingPolicy,
        PollPolicy,
        WaitState,
    )
    from modelmax_async._runtime.retry import RetryPolicy
    from modelmax_async.ledger import Ledger, MemoryLedger, PostgresLedger, SQLiteLedger
else:  # hidden from type checkers, which would accept any name

    def __getattr__(name: str) -> Any:
        """Load a public name, or one of the public modules, at its first use (PEP 562)."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        for home in _HOMES if name in __all__ else ():
            module = import_module(f"{__name__}.{home}")
            # One needs an extra: only its own name loads it.
            if name in vars(module) or (name == "PostgresLedger" and home == "ledger"):
                return globals().setdefault(name, getattr(module, name))
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
