"""An HTTP response as a value, and the bodies that the API documents (API §5)."""

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
class Response:
    """A response, including the faults of its connection."""

    status: int
    headers: Headers = ()  # a missing Content-Length is added
    body: bytes = b""
    stream: Iterable[bytes] | None = None  # pieces, sent instead of `body`
    length: int | None = None  # the Content-Length of `stream`; `None` sends it chunked
    hang: float = 0.0  # seconds before the first byte
    drop: bool = False  # closes the connection without a response
    cut: int | None = None  # closes the connection after this many bytes of the body
    delay: float = 0.0  # seconds after each piece of `stream`

    def payload(self) -> bytes:
        """Return the whole body; this consumes a stream."""
        return self.body if self.stream is None else b"".join(self.stream)

    def asgi_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields in the form of ASGI, Content-Length included."""
        fields = [(name.lower(), value) for name, value in self.headers]
        length = len(self.body) if self.stream is None else self.length
        if length is not None and all(name != "content-length" for name, _ in fields):
            fields.append(("content-length", str(length)))
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields]


def json_response(status: int, document: Mapping[str, Any]) -> Response:
    """Return a response whose body is a JSON document."""
    return Response(status, JSON, json.dumps(document).encode())


def error_response(
    status: int, kind: str, message: str, *, retry_after: str | None = None
) -> Response:
    """Return the documented error body (API §5), whose `type` is `kind`."""
    body = json.dumps({"error": {"message": message, "type": kind}}).encode()
    return Response(status, JSON + retry_header(retry_after), body)


def html_response(status: int, *, retry_after: str | None = None) -> Response:
    """Return the response of a gateway in front of the API: an HTML page."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    return Response(status, HTML + retry_header(retry_after), page.encode())


def retry_header(value: str | None) -> Headers:
    """Return the `Retry-After` field, if there is a value."""
    return () if value is None else (("retry-after", value),)


def padded(body: bytes, total: int) -> Iterator[bytes]:
    """Yield `body`, then spaces up to `total` bytes, so that JSON stays valid."""
    yield body
    left = total - len(body)
    while left > 0:
        yield b" " * min(BLOCK, left)
        left -= BLOCK
