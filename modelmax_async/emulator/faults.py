"""Faults: how an endpoint fails to answer as documented.

A fault with `processed` set lets the request do its work first, so a result
call is billed and a submit creates a job although the client may never learn
of it. A fault without stands for a gateway in front that never passed the
request on.
"""

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from attrs import evolve, field, frozen

from modelmax_async.emulator.answers import Answer, error_answer, html_answer, padded

ENDPOINTS = ("submit", "status", "result", "content")


@frozen
class Fault:
    """One way to misbehave; build it with one of the class methods.

    Attributes:
        name: What happens, for people.
        processed: Whether the request takes effect (a result call: is billed).
        change: Turns the honest answer into the faulty one.
    """

    name: str
    processed: bool
    change: Callable[[Answer], Answer] = field(repr=False)

    @classmethod
    def error(
        cls,
        status: int,
        *,
        type: str = "bad_gateway",  # noqa: A002 - the API's own word for it
        message: str = "the emulator was told to fail",
        retry_after: str | None = None,
        envelope: bool = True,
        processed: bool = False,
    ) -> Self:
        """Answer with an error (API §5), as JSON or else as a gateway's HTML.

        Args:
            status: The HTTP status.
            type: The `type` in the documented body.
            message: The `message` in the documented body.
            retry_after: Value of the `Retry-After` header: seconds or an HTTP date.
            envelope: `False` answers HTML instead of the documented JSON.
            processed: Whether the request takes effect first.
        """
        made = (
            error_answer(status, type, message, retry_after=retry_after)
            if envelope
            else html_answer(status, retry_after=retry_after)
        )
        return cls(f"error {status}", processed, lambda _: made)

    @classmethod
    def html(cls, status: int, *, processed: bool = False) -> Self:
        """Answer with a gateway's HTML page."""
        return cls.error(status, envelope=False, processed=processed)

    @classmethod
    def redirect(cls, location: str, status: int = 302, *, processed: bool = False) -> Self:
        """Send the client elsewhere."""
        made = Answer(status, (("location", location),))
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
        """Answer with exactly this; a 2xx counts as processed unless told otherwise.

        A Content-Length beyond the body closes the connection after the body.
        """
        fields = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        told = [int(value) for name, value in fields if name.lower() == "content-length"]
        made = Answer(status, fields, body, cut=len(body) if told > [len(body)] else None)
        took_effect = 200 <= status < 300 if processed is None else processed  # noqa: PLR2004
        return cls(f"raw {status}", took_effect, lambda _: made)

    @classmethod
    def drop_before(cls) -> Self:
        """Close the connection; nothing was processed, nothing is billed."""
        return cls("drop before", processed=False, change=lambda a: evolve(a, drop=True))

    @classmethod
    def drop_after(cls) -> Self:
        """Process the request, then close the connection without an answer byte."""
        return cls("drop after", processed=True, change=lambda a: evolve(a, drop=True))

    @classmethod
    def hang(cls, seconds: float, *, processed: bool = True) -> Self:
        """Answer only after `seconds`; unprocessed, the late answer is an HTML 504."""
        return cls(f"hang {seconds}", processed, lambda a: evolve(a, hang=seconds))

    @classmethod
    def truncate(cls, keep: int) -> Self:
        """Announce the whole length, send `keep` bytes, close the connection."""
        return cls(f"truncate {keep}", processed=True, change=lambda a: evolve(a, cut=keep))

    @classmethod
    def garble(cls, body: bytes = b"{not json") -> Self:
        """Answer 200 with a body that means nothing."""
        made = Answer(200, (("content-type", "application/json"),), body)
        return cls("garble", processed=True, change=lambda _: made)

    @classmethod
    def oversize(cls, n_bytes: int) -> Self:
        """Blow the answer up to `n_bytes` with spaces at its end."""

        def change(answer: Answer) -> Answer:
            body = answer.payload()
            total = max(n_bytes, len(body))
            return evolve(answer, body=b"", stream=padded(body, total), length=total)

        return cls(f"oversize {n_bytes}", processed=True, change=change)

    @classmethod
    def gzip(cls, *, n_bytes: int = 0) -> Self:
        """Compress the answer, blown up first to `n_bytes` (a decompression bomb)."""

        def change(answer: Answer) -> Answer:
            packer = zlib.compressobj(wbits=31)
            parts = [packer.compress(part) for part in padded(answer.payload(), n_bytes)]
            body = b"".join([*parts, packer.flush()])
            headers = (*answer.headers, ("content-encoding", "gzip"))
            return evolve(answer, headers=headers, body=body, stream=None)

        return cls("gzip", processed=True, change=change)


UNPROCESSED = html_answer(504)
"""The answer that an unprocessed fault starts from."""


class Plan:
    """The faults to come; each request takes at most one, first come, first served."""

    def __init__(self) -> None:
        self._planned: list[tuple[str, str | None, list[Fault], bool]] = []

    def add(
        self, endpoint: str, fault: Fault, *, times: int | None, request_id: str | None
    ) -> None:
        """Plan a fault; the arguments are those of `Emulator.fault`."""
        if endpoint not in ENDPOINTS:
            raise ValueError(f"endpoint must be one of {ENDPOINTS}, not {endpoint!r}")
        if endpoint == "submit" and request_id is not None:
            raise ValueError("a submit has no request id yet: leave request_id out")
        if times is not None and times < 1:
            raise ValueError("times must be at least 1, or None for ever")
        self._planned.append((endpoint, request_id, [fault] * (times or 1), times is None))

    def take(self, endpoint: str, request_id: str | None) -> Fault | None:
        """Return the fault for this request and use it up."""
        for entry in self._planned:
            wanted, only, faults, for_ever = entry
            if wanted == endpoint and only in (None, request_id):
                if for_ever:
                    return faults[0]
                fault = faults.pop()
                if not faults:
                    self._planned.remove(entry)
                return fault
        return None

    def clear(self) -> None:
        """Forget every planned fault."""
        self._planned.clear()
