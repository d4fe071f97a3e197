"""Calls and replies, and how the JSON or the error in a reply is read.

Nothing here does I/O, so each paragraph of the API can be tested without an event loop.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import attrs

from modelmax_async import _errors as errors
from modelmax_async._api.bounded_json import parse
from modelmax_async._errors.sentences import clause
from modelmax_async._models import Job

_SHOWN = 64 * 1024
#: The longest pause that a server can ask for, in seconds.
LONGEST_RETRY_AFTER = 3600.0

_ERRORS: Mapping[int, type[errors.APIError]] = {
    HTTPStatus.BAD_REQUEST: errors.BadRequestError,
    HTTPStatus.UNAUTHORIZED: errors.AuthenticationError,
    HTTPStatus.PAYMENT_REQUIRED: errors.InsufficientBalanceError,
    HTTPStatus.FORBIDDEN: errors.PermissionDeniedError,
    HTTPStatus.NOT_FOUND: errors.NotFoundError,
    HTTPStatus.TOO_MANY_REQUESTS: errors.RateLimitError,
}


@attrs.frozen
class Call:
    """A request without the key; ``path`` starts with ``/`` and is appended to the base URL."""

    method: str
    path: str
    body: bytes | None = attrs.field(default=None, repr=False)
    job: Job | None = None


@attrs.frozen
class Reply:
    """A complete response: header names in lower case, the body decompressed where possible.

    A body that cannot be decompressed is as it was on the wire, and ``headers`` have its
    Content-Encoding. ``kept_at`` is the file with the whole body if it was too large for
    memory, ``unread`` the reason why a body was not read, as the words after "the response",
    and ``host`` what messages call the server.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = attrs.field(repr=False)
    kept_at: str | None = None
    host: str = ""
    unread: str = ""

    @property
    def origin(self) -> str:
        """What a message says of the server, as the words after "the response"."""
        return f" from {self.host}" if self.host else ""


def parse_error(reply: Reply, *, now: float, job: Job | None) -> errors.APIError:
    """Return the error of a 4xx or 5xx response (API §5), with or without its JSON body."""
    found = _envelope(reply)
    fallback = (
        errors.ServerError
        if reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        else errors.APIError
    )
    kind = _ERRORS.get(reply.status, fallback)
    rest = {k: v for k, v in found.items() if k not in {"message", "type"}}
    headers = reply.headers
    return kind(
        as_text(found.get("message")) or "(no documented error body)",
        status_code=reply.status,
        error_type=as_text(found["type"]) if found else None,
        retry_after=parse_retry_after(headers.get("retry-after"), now, headers.get("date")),
        host=reply.host or None,
        details=rest,
        job=job,
    )


def decoded(reply: Reply) -> bytes:
    """Return the body.

    Raises:
        ValueError: if it is still compressed, because it could not be decompressed.
    """
    if "content-encoding" in reply.headers:
        encoding = as_text(reply.headers["content-encoding"], 100)
        raise ValueError(f"the body could not be decompressed (Content-Encoding: {encoding})")
    return reply.body


def is_encoded(encoding: str) -> bool:
    """Whether a ``Content-Encoding`` says that a body is compressed."""
    return encoding.strip().lower() not in {"identity", ""}


def decompress(body: bytes, encoding: str, most: int) -> bytes:
    """Return a body after decompression.

    Raises:
        ValueError: for an unknown encoding, an invalid body, and one above ``most`` bytes.
    """
    encoding = encoding.strip().lower()
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise ValueError(f"unknown Content-Encoding {as_text(encoding)}")
    try:
        unpack = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib by its header
        unpacked = unpack.decompress(body, most + 1)
    except zlib.error as exc:
        raise ValueError(f"invalid {encoding} body: {exc}") from exc
    if len(unpacked) > most or not unpack.eof or unpack.unused_data:
        raise ValueError(
            f"the {encoding} body is truncated, has trailing data or exceeds {most} bytes"
        )
    return unpacked


def as_text(value: object, limit: int = 2000) -> str:
    """Return a value from the server as printable text of at most ``limit`` characters."""
    if value is None:
        return ""
    try:
        text = value if isinstance(value, str) else _beginning_of(value, limit)
    except (TypeError, ValueError, RecursionError):
        text = f"(a {type(value).__name__} that cannot be shown)"
    return "".join(c if c.isprintable() else " " for c in as_utf8(text[:limit]))


def _beginning_of(value: object, limit: int) -> str:
    """Return the beginning of a value's JSON; the rest is not written, as it may be large."""
    text = ""
    for part in json.JSONEncoder(default=str).iterencode(value):
        text += part[:limit]
        if len(text) >= limit:
            break
    return text


def as_utf8(text: str) -> str:
    """Return the text with unpaired surrogates, which JSON can contain, as ``?``."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _envelope(reply: Reply) -> dict[str, Any]:
    """Return the documented error object (API §5), or an empty one."""
    if reply.unread:
        return {}
    try:
        error = parse(decoded(reply))["error"]
        texts = (error["message"], error["type"])
    except (ValueError, KeyError, TypeError):
        return {}
    return dict(error) if all(isinstance(text, str) for text in texts) else {}


def read_json(reply: Reply, *, now: float, job: Job | None) -> Any:
    """Return the JSON of a 2xx response.

    ``now``, in seconds since the epoch, is for a ``Retry-After`` date.

    Raises:
        APIError: for a 4xx or 5xx response.
        InvalidResponseError: for any other status, and for a body that is not JSON or was not
            read.
    """
    if reply.status >= HTTPStatus.BAD_REQUEST:
        raise parse_error(reply, now=now, job=job)
    about = f" for job {job.request_id}" if job is not None else ""
    if not HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
        where = as_text(reply.headers.get("location"), 200)
        redirect = f", a redirect to {where}, which is not followed" if where else ""
        raise errors.InvalidResponseError(
            f"unexpected HTTP {reply.status}{reply.origin}{about}{redirect}: check base_url",
            body=shown(reply),
            job=job,
        )
    if reply.unread:
        raise errors.InvalidResponseError(
            f"the response{reply.origin}{about} {reply.unread}", job=job
        )
    try:
        return parse(decoded(reply))
    except ValueError as exc:
        ours = type(exc) is ValueError  # its text says which bound it is beyond
        problem = str(exc) if ours else f"it is not valid JSON: {type(exc).__name__}"
    raise errors.InvalidResponseError(
        f"the response{reply.origin}{about} could not be understood ({clause(problem)}): check "
        "base_url",
        body=shown(reply),
        job=job,
    )


def shown(reply: Reply) -> bytes:
    """Return as much of the body as an error holds."""
    return reply.body[:_SHOWN]


def parse_retry_after(value: str | None, now: float, date: str | None = None) -> float | None:
    """Return the seconds of a ``Retry-After`` header, ``None`` if it is absent or unreadable.

    A ``Retry-After`` date is by the server's clock, which the ``Date`` header tells; without
    one, ``now`` is this machine's, in seconds since the epoch.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER)
    then = _parse_date(text)
    if then is None:
        return None
    sent = _parse_date(date or "")
    return min(max(0.0, then - (now if sent is None else sent)), LONGEST_RETRY_AFTER)


def _parse_date(text: str) -> float | None:
    """Return an HTTP date as seconds since the epoch, ``None`` if it is not one."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if found.tzinfo is None:  # an HTTP date without a zone is in GMT
        found = found.replace(tzinfo=UTC)
    return found.timestamp()
