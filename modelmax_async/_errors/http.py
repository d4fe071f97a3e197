"""Errors of one exchange: it failed, or its response is an error or not understood."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from modelmax_async._errors.base import ModelMaxError
from modelmax_async._errors.sentences import sentence

if TYPE_CHECKING:
    from modelmax_async._models import Job


class TransportError(ModelMaxError):
    """The exchange failed before a complete response arrived.

    Attributes:
        maybe_sent: whether any byte of the request may have left this machine.
        host: the host that the request was for, with its port unless that is the usual one.
    """

    def __init__(
        self, message: str, *, maybe_sent: bool, host: str | None = None, job: Job | None = None
    ) -> None:
        super().__init__(message, job=job)
        self.maybe_sent = maybe_sent
        self.host = host


class RequestTimeoutError(TransportError, TimeoutError):
    """The server took longer than the client's ``timeout`` for one request."""


class APIError(ModelMaxError):
    """The server responded with an error (API §5).

    Attributes:
        status_code: the HTTP status.
        error_type: the documented ``type``, ``None`` without the documented body.
        message: the server's text.
        retry_after: the server's ``Retry-After`` in seconds, ``None`` without one.
        details: further fields of the error, such as ``session_id`` and ``amount`` of a 402.
        host: the host that responded, with its port unless that is the usual one.
    """

    advice = "Retry after a moment."

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        error_type: str | None = None,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
        host: str | None = None,
        job: Job | None = None,
    ) -> None:
        about = f" for job {job.request_id}" if job is not None else ""
        kind = f" {error_type}" if error_type else ""
        origin = f" from {host}" if host else ""
        super().__init__(
            f"HTTP {status_code}{kind}{origin}{about}: {sentence(message)} {self.advice}",
            job=job,
        )
        self.status_code = status_code
        self.error_type = error_type
        self.message = message
        self.retry_after = retry_after
        self.details: dict[str, Any] = dict(details or {})
        self.host = host


class BadRequestError(APIError):
    """400: invalid body, unknown request id, unsupported model, provider mismatch."""

    advice = "Check the request id, the model and the parameters."


class AuthenticationError(APIError):
    """401: the key is missing or invalid."""

    advice = "Check the API key; jobs already submitted are not lost."


class InsufficientBalanceError(APIError):
    """402: the balance is zero or negative. Nothing was charged."""

    advice = "Nothing was charged: top up the account, then call again."


class PermissionDeniedError(APIError):
    """403: the key does not permit this."""

    advice = "Check the permissions of the API key."


class NotFoundError(APIError):
    """404: the job, the model or the path does not exist."""

    advice = "Check the request id, the model and the base URL."


class RateLimitError(APIError):
    """429: too many requests."""


class ServerError(APIError):
    """5xx: the server, or the provider behind it, failed."""


class InvalidResponseError(ModelMaxError):
    """The response could not be understood.

    Attributes:
        body: its body: all of it if it was paid for, otherwise at most 64 KiB. It is empty for
            a response that was not read, because it was too large or compressed.
    """

    def __init__(self, message: str, *, body: bytes = b"", job: Job | None = None) -> None:
        super().__init__(message, job=job)
        self.body = body


class SubmitUncertainError(ModelMaxError):
    """The submit may have created a job, but its request id did not arrive.

    Such a job is not billed: only fetching its result is, which needs the request id.
    """
