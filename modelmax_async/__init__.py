"""An asyncio-native client for ModelMax's video queue: each finished job billed once.

Names are loaded when they are first asked for, so that a program that needs the errors or
the values alone does not pay for the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from modelmax_async._version import VERSION as __version__

_HOMES = {
    "_client": ("AsyncQueueClient",),
    "_errors": (
        "APIError",
        "AuthenticationError",
        "BadRequestError",
        "ClientStateError",
        "ConfigurationError",
        "DownloadError",
        "GatherError",
        "InconsistentStateError",
        "InsufficientBalanceError",
        "InvalidResponseError",
        "JobError",
        "JobFailedError",
        "JobTimeoutError",
        "LedgerError",
        "ModelMaxError",
        "NotFoundError",
        "NotReadyError",
        "PermissionDeniedError",
        "RateLimitError",
        "RequestTimeoutError",
        "ResultDroppedError",
        "ResultUncertainError",
        "ServerError",
        "SubmitUncertainError",
        "TransportError",
    ),
    "_models": (
        "Job",
        "LedgerEntry",
        "Outcome",
        "Result",
        "Status",
        "StatusReport",
        "Usage",
        "Video",
        "VideoParameters",
    ),
    "_polling.policies": (
        "DelayPolicy",
        "PollPolicy",
    ),
    "_runtime.retry": ("RetryPolicy",),
    "ledger": (
        "Ledger",
        "MemoryLedger",
        "SQLiteLedger",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_MODULES = ("emulator", "events", "ledger", "testing")

__all__ = [
    "APIError",
    "AsyncQueueClient",
    "AuthenticationError",
    "BadRequestError",
    "ClientStateError",
    "ConfigurationError",
    "DelayPolicy",
    "DownloadError",
    "GatherError",
    "InconsistentStateError",
    "InsufficientBalanceError",
    "InvalidResponseError",
    "Job",
    "JobError",
    "JobFailedError",
    "JobTimeoutError",
    "Ledger",
    "LedgerEntry",
    "LedgerError",
    "MemoryLedger",
    "ModelMaxError",
    "NotFoundError",
    "NotReadyError",
    "Outcome",
    "PermissionDeniedError",
    "PollPolicy",
    "RateLimitError",
    "RequestTimeoutError",
    "Result",
    "ResultDroppedError",
    "ResultUncertainError",
    "RetryPolicy",
    "SQLiteLedger",
    "ServerError",
    "Status",
    "StatusReport",
    "SubmitUncertainError",
    "TransportError",
    "Usage",
    "Video",
    "VideoParameters",
    "__version__",
]


def __dir__() -> list[str]:
    return [*__all__, *_MODULES]


if TYPE_CHECKING:
    from modelmax_async._client import AsyncQueueClient
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
        Job,
        LedgerEntry,
        Outcome,
        Result,
        Status,
        StatusReport,
        Usage,
        Video,
        VideoParameters,
    )
    from modelmax_async._polling.policies import DelayPolicy, PollPolicy
    from modelmax_async._runtime.retry import RetryPolicy
    from modelmax_async.ledger import Ledger, MemoryLedger, SQLiteLedger
else:  # or type checkers would believe that every name exists

    def __getattr__(name: str) -> Any:
        """Load a public name, or one of the public modules, at its first use (PEP 562)."""
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
