"""An HTTP answer as a value, and the bodies that the API documents (API §5)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Headers = tuple[tuple[str, str], ...]

JSON: Headers = (("content-type", "application/json"),)
HTML: Headers = (("content-type", "text/html; charset=utf-8"),)
BLOCK = 65536


@frozen
class Answer:
    """What goes back to a client, including how the connection misbehaves.

    Attributes:
        status: The HTTP status.
        headers: Header fields; Content-Length is added where it is missing.
        body: The whole body, unless `stream` is given.
        stream: The body piece by piece.
        length: The Content-Length of `stream`; `None` means chunked encoding.
        hang: Seconds to wait before the first byte.
        drop: Close the connection instead of answering.
        cut: Close the connection after this many body bytes.
        delay: Seconds to wait after each piece of `stream`.
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    stream: Iterable[bytes] | None = None
    length: int | None = None
    hang: float = 0.0
    drop: bool = False
    cut: int | None = None
    delay: float = 0.0

    def payload(self) -> bytes:
        """Return the whole body; a stream is used up by this."""
        return self.body if self.stream is None else b"".join(self.stream)

    def wire_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields as ASGI wants them, Content-Length included."""
        fields = [(name.lower(), value) for name, value in self.headers]
        length = len(self.body) if self.stream is None else self.length
        if length is not None and all(name != "content-length" for name, _ in fields):
            fields.append(("content-length", str(length)))
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]


def json_answer(status: int, document: Mapping[str, Any]) -> Answer:
    """Return an answer whose body is a JSON document."""
    return Answer(status, JSON, json.dumps(document).encode())


def error_answer(
    status: int, kind: str, message: str, *, retry_after: str | None = None
) -> Answer:
    """Return the documented error body (API §5).

    Args:
        status: The HTTP status.
        kind: The documented `type`, such as `bad_request`.
        message: Text for people.
        retry_after: Seconds or an HTTP date, sent as `Retry-After`.
    """
    body = json.dumps({"error": {"message": message, "type": kind}}).encode()
    return Answer(status, JSON + retry_header(retry_after), body)


def html_answer(status: int, *, retry_after: str | None = None) -> Answer:
    """Return what a gateway in front of the API answers: an HTML page."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return Answer(status, HTML + retry_header(retry_after), page.encode())


def retry_header(value: str | None) -> Headers:
    """Return the `Retry-After` field, or nothing."""
    return () if value is None else (("retry-after", value),)


def padded(body: bytes, total: int) -> Iterator[bytes]:
    """Yield `body`, then spaces up to `total` bytes: JSON stays JSON."""
    yield body
    left = total - len(body)
    while left > 0:
        yield b" " * min(BLOCK, left)
        left -= BLOCK
