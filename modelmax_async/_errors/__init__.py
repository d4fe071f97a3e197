"""Every error of the package.

::

    ModelMaxError
    ├── ConfigurationError (also ValueError)
    ├── ClientStateError (also RuntimeError)
    ├── TransportError
    │   └── RequestTimeoutError (also TimeoutError)
    ├── APIError
    │   ├── BadRequestError 400 · AuthenticationError 401 · InsufficientBalanceError 402
    │   ├── PermissionDeniedError 403 · NotFoundError 404 · RateLimitError 429
    │   └── ServerError 5xx
    ├── InvalidResponseError
    ├── KeyConflictError (also ValueError)
    ├── SubmitUncertainError
    ├── JobError
    │   ├── JobFailedError
    │   ├── JobTimeoutError (also TimeoutError)
    │   ├── NotReadyError
    │   ├── InconsistentStateError
    │   ├── ResultDroppedError
    │   └── ResultUncertainError
    ├── DownloadError
    ├── LedgerError
    └── GatherError (also ExceptionGroup)

They hold plain values only, never a key or an object of the HTTP library. They can be pickled,
and an unpickled error equals the original.
"""

from modelmax_async._errors.base import (
    ClientStateError,
    ConfigurationError,
    DownloadError,
    KeyConflictError,
    LedgerError,
    ModelMaxError,
    fresh,
)
from modelmax_async._errors.http import (
    APIError,
    AuthenticationError,
    BadRequestError,
    InsufficientBalanceError,
    InvalidResponseError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
    SubmitUncertainError,
    TransportError,
)
from modelmax_async._errors.job import (
    GatherError,
    InconsistentStateError,
    JobError,
    JobFailedError,
    JobTimeoutError,
    NotReadyError,
    ResultDroppedError,
    ResultUncertainError,
)

__all__ = [
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
    "KeyConflictError",
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
    "fresh",
]

for _name in __all__:
    if _name != "fresh":  # the one name that is not public
        globals()[_name].__module__ = "modelmax_async"
