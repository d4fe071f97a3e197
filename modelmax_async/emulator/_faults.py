"""Faults: responses of an endpoint that differ from the documented ones.

With `processed`, the request takes effect first: a result call is billed and a submit creates
a job, although the client may never learn of it. Without, the fault is that of a gateway that
did not forward the request.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import repeat
from typing import Literal, Self, get_args

from attrs import evolve, field, frozen

from modelmax_async._reprs import always_shown
from modelmax_async.emulator._responses import Response, error_response, html_response, padded

Endpoint = Literal["submit", "status", "result", "content", "config"]
ENDPOINTS = get_args(Endpoint)


@always_shown
@frozen
class Fault:
    """A fault; create it with one of the class methods.

    Attributes:
        name: A short description.
        processed: Whether the request takes effect; a result call is then billed.
        change: Turns the documented response into the faulty one.
    """

    name: str
    processed: bool
    change: Callable[[Response], Response] = field(repr=False)

    @classmethod
    def error(
        cls,
        status: int,
        *,
        type: str = "bad_gateway",  # noqa: A002 - the name of the field in the API
        message: str = "the emulator was told to fail",
        retry_after: str | None = None,
        envelope: bool = True,
        processed: bool = False,
    ) -> Self:
        """Respond with an error (API §5), as JSON or as the HTML of a gateway.

        Args:
            status: The HTTP status.
            type: The `type` in the documented body.
            message: The `message` in the documented body.
            retry_after: Value of the `Retry-After` header: seconds or an HTTP date.
            envelope: `False` sends HTML instead of the documented JSON.
            processed: Whether the request takes effect first.
        """
        made = (
            error_response(status, type, message, retry_after=retry_after)
            if envelope
            else html_response(status, retry_after=retry_after)
        )
        return cls(f"error {status}", processed, lambda _: made)

    @classmethod
    def html(cls, status: int, *, processed: bool = False) -> Self:
        """Respond with the HTML page of a gateway."""
        return cls.error(status, envelope=False, processed=processed)

    @classmethod
    def redirect(
        cls, location: str, status: int = HTTPStatus.FOUND, *, processed: bool = False
    ) -> Self:
        """Redirect the client to another URL."""
        made = Response(status, (("location", location),))
        return cls(f"redirect {status}", processed, lambda _: made)

    @classmethod
    def raw(
        cls,
        status: int,
        body: bytes = b"",
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        *,
        processed: bool | None = None,
    ) -> Self:
        """Respond with exactly this. By default, a 2xx counts as processed.

        If the Content-Length exceeds the body, the connection is closed after it.
        """
        fields = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        told = [int(value) for name, value in fields if name.lower() == "content-length"]
        made = Response(status, fields, body, cut=len(body) if told > [len(body)] else None)
        if processed is None:
            processed = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
        return cls(f"raw {status}", processed, lambda _: made)

    @classmethod
    def drop_before(cls) -> Self:
        """Close the connection before the request is processed; nothing is billed."""
        return cls("drop before", processed=False, change=lambda a: evolve(a, drop=True))

    @classmethod
    def drop_after(cls) -> Self:
        """Process the request, then close the connection without a response."""
        return cls("drop after", processed=True, change=lambda a: evolve(a, drop=True))

    @classmethod
    def hang(cls, seconds: float, *, processed: bool = True) -> Self:
        """Respond after `seconds`, with an HTML 504 unless the request was processed."""
        return cls(f"hang {seconds}", processed, lambda a: evolve(a, hang=seconds))

    @classmethod
    def truncate(cls, keep: int) -> Self:
        """Announce the whole body, send `keep` bytes of it, and close the connection."""
        return cls(f"truncate {keep}", processed=True, change=lambda a: evolve(a, cut=keep))

    @classmethod
    def garble(cls, body: bytes = b"{not json") -> Self:
        """Respond with a 200 whose body cannot be parsed."""
        made = Response(HTTPStatus.OK, (("content-type", "application/json"),), body)
        return cls("garble", processed=True, change=lambda _: made)

    @classmethod
    def oversize(cls, n_bytes: int) -> Self:
        """Extend the body to `n_bytes` with spaces."""

        def change(response: Response) -> Response:
            body = response.payload()
            total = max(n_bytes, len(body))
            return evolve(response, body=b"", stream=padded(body, total), length=total)

        return cls(f"oversize {n_bytes}", processed=True, change=change)

    @classmethod
    def gzip(cls, *, n_bytes: int = 0) -> Self:
        """Compress the body, extended to `n_bytes` first (a decompression bomb)."""

        def change(response: Response) -> Response:
            packer = zlib.compressobj(wbits=31)
            parts = [packer.compress(part) for part in padded(response.payload(), n_bytes)]
            body = b"".join([*parts, packer.flush()])
            headers = (*response.headers, ("content-encoding", "gzip"))
            return evolve(response, headers=headers, body=body, stream=None)

        return cls("gzip", processed=True, change=change)


UNPROCESSED = html_response(HTTPStatus.GATEWAY_TIMEOUT)
"""The response that `Fault.change` gets if the request is not processed."""


class Plan:
    """The planned faults; each request gets at most one, in the order of planning."""

    def __init__(self) -> None:
        self._planned: list[tuple[str, str | None, Iterator[Fault]]] = []

    def add(
        self, endpoint: Endpoint, fault: Fault, *, times: int | None, request_id: str | None
    ) -> None:
        """Plan a fault; the arguments are those of `Emulator.fault`."""
        if endpoint not in ENDPOINTS:
            raise ValueError(f"endpoint must be one of {ENDPOINTS}, got {endpoint!r}")
        if endpoint in {"submit", "config"} and request_id is not None:
            raise ValueError(f"request_id must be None for {endpoint}, whose path has no id")
        if times is not None and times < 1:
            raise ValueError(f"times must be at least 1, or None for all requests, got {times}")
        faults = repeat(fault) if times is None else repeat(fault, times)
        self._planned.append((endpoint, request_id, faults))

    def take(self, endpoint: str, request_id: str | None) -> Fault | None:
        """Return the fault for this request, and count it as used."""
        for wanted, only, faults in self._planned:
            if wanted == endpoint and only in (None, request_id):
                fault = next(faults, None)
                if fault is not None:
                    return fault
        return None

    def clear(self) -> None:
        """Remove all planned faults."""
        self._planned.clear()
