"""Jobs, and what the server says of them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Self

import attrs

from modelmax_async import _validators as valid
from modelmax_async._models.value import Value


class Status(StrEnum):
    """The documented statuses of a job (API §2). Any other word stays a plain ``str``."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"

    @classmethod
    def of(cls, word: str) -> Self | str:
        """Return the member for a documented word, or any other word unchanged."""
        return cls._value2member_map_.get(word, word)  # type: ignore[return-value]  # the map's values are members


def as_status(word: str) -> Status | str:
    """Convert a field to a `Status` if it is a documented word; cattrs uses this as well."""
    return Status.of(word)


@attrs.frozen
class Job(Value):
    """A submitted job: a plain value that is valid on any machine (API §1).

    Args:
        model: the model that it was submitted to, such as ``"veo-3"``.
        request_id: the server's opaque id of it.
        status_url: the path of the free status call, empty for the documented path.
        response_url: the path of the **billed** result, empty for the documented path.
        submitted_at: when `submit` received the job, in seconds since the epoch; ``None`` if
            that is unknown. The times of polls and `AsyncQueueClient.expected` depend on it,
            the billed call does not.
        key: the key that it was submitted with, ``None`` without one.

    Raises:
        ValueError: for a request id or a model that cannot be one path segment, a path with
            characters that a database cannot hold, a time that is not a number, or a key that
            `submit` would refuse.
    """

    model: str = attrs.field(validator=valid.segment("model"))
    request_id: str = attrs.field(validator=valid.segment("request id"))
    status_url: str = attrs.field(default="", validator=valid.recordable)
    response_url: str = attrs.field(default="", validator=valid.recordable)
    submitted_at: float | None = attrs.field(default=None, validator=valid.timestamp)
    key: str | None = attrs.field(default=None, validator=valid.submit_key)


@attrs.frozen
class StatusReport(Value):
    """One response of the status endpoint (API §2) about the job ``request_id``.

    ``status`` is a `Status`, or the server's word if it is not documented: such a job is not
    terminal, and its result is never fetched. ``error`` is the server's text for a FAILED job,
    ``raw`` the whole JSON body, unknown fields included. It is empty in the report that tells
    a caller who joins a wait the status that the client knows already.
    """

    request_id: str
    status: Status | str = attrs.field(converter=as_status)
    error: str | None = None
    raw: Mapping[str, Any] = attrs.field(factory=dict, hash=False, repr=False)

    @property
    def terminal(self) -> bool:
        """Whether the job has ended: COMPLETED or FAILED."""
        return self.status in {Status.COMPLETED, Status.FAILED}
