"""The video bytes of a job, and how the content endpoint serves them (API §4)."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from importlib import resources
from typing import Literal

from attrs import field, frozen

from modelmax_async._reprs import always_shown
from modelmax_async.emulator._responses import Headers, Response, error_response

RangeMode = Literal[
    "honour", "ignore", "wrong-offset", "wrong-total", "416", "no-content-range"
]

_FTYP = b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isommp42"
_PERIOD = 251  # a prime, so that bytes of a wrong offset do not match
_PATTERN = bytes(range(_PERIOD))
_MAX_SIZE32 = 2**32 - 1
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")

# read at import, since the first use is in an event loop; it has 4 KB
_SAMPLE = resources.files(__package__).joinpath("sample.mp4").read_bytes()


def sample_mp4() -> bytes:
    """Return the sample video: one playable second of 160x90 pixels."""
    return _SAMPLE


def _head(size: int) -> bytes:
    """Return the bytes before the filler of a generated MP4 of `size` bytes."""
    left = size - len(_FTYP)
    if left <= _MAX_SIZE32:
        return _FTYP + left.to_bytes(4, "big") + b"mdat"
    return _FTYP + b"\x00\x00\x00\x01mdat" + left.to_bytes(8, "big")


@always_shown
@frozen(kw_only=True)
class Content:
    """How the content endpoint behaves for a job.

    Attributes:
        body: The bytes; the sample video by default.
        size: Generate an MP4-shaped file of this many bytes instead: an ``ftyp`` box
            and an ``mdat`` box, never held in memory.
        etag: The entity tag, quotes included.
        etag_changes: Whether every call gets another version: a new entity tag and, for
            a generated file, other bytes.
        ranges: The response to a ``Range`` request. ``honour``: the requested bytes;
            ``ignore``: a 200 with all bytes; ``wrong-offset``: a 206 that starts one byte late
            and says so; ``wrong-total``: a 206 with another total size; ``416``: an error;
            ``no-content-range``: the requested bytes without that header.
        length: Whether to send Content-Length; otherwise the body is chunked.
        content_type: The media type.
        cut_after: Close the connection after this many body bytes.
        cut_times: The number of calls for one job that are cut.
        chunk: Bytes in a piece of the body.
        delay: Seconds to wait after each piece.
    """

    body: bytes | None = field(default=None, repr=False)
    size: int | None = None
    etag: str | None = None
    etag_changes: bool = False
    ranges: RangeMode = "honour"
    length: bool = True
    content_type: str = "video/mp4"
    cut_after: int | None = None
    cut_times: int = 1
    chunk: int = 65536
    delay: float = 0.0

    def __attrs_post_init__(self) -> None:
        smallest = len(_FTYP) + 8
        if self.size is not None and self.size < smallest:
            raise ValueError(f"size must be at least {smallest} bytes, got {self.size}")

    @property
    def total(self) -> int:
        """The size in bytes."""
        return self.size if self.size is not None else len(self._bytes)

    @property
    def _bytes(self) -> bytes:
        return sample_mp4() if self.body is None else self.body

    def window(self, start: int, stop: int, *, version: int = 0) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop` in pieces of `chunk` bytes."""
        if self.size is None:
            for at in range(start, stop, self.chunk):
                yield self._bytes[at : min(at + self.chunk, stop)]
            return
        head = _head(self.size)
        if start < len(head):
            yield head[start:stop]
            start = len(head)
        filler = _PATTERN * (self.chunk // _PERIOD + 2)
        for at in range(start, stop, self.chunk):
            shift = (at + version) % _PERIOD
            yield filler[shift : shift + min(self.chunk, stop - at)]

    def tag(self, version: int) -> str | None:
        """Return the entity tag of a version."""
        return f'"v{version}"' if self.etag_changes else self.etag


def content_response(
    content: Content, *, index: int, version: int, cut: bool, asked: dict[str, str]
) -> Response:
    """Return the response to a content request (API §4) with the headers `asked`."""
    version = version if content.etag_changes else 0
    status, start, stop, headers = _part(content, content.tag(version), asked)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        refusal = error_response(status, "bad_request", "range not satisfiable")
        return Response(status, refusal.headers + headers, refusal.body)
    name = f'inline; filename="video-{index}.mp4"'
    return Response(
        status,
        (("content-type", content.content_type), ("content-disposition", name), *headers),
        stream=content.window(start, stop, version=version),
        length=stop - start if content.length else None,
        cut=content.cut_after if cut else None,
        delay=content.delay,
    )


def _part(
    content: Content, tag: str | None, asked: dict[str, str]
) -> tuple[int, int, int, Headers]:
    """Return the status, the offsets of the body (the end exclusive) and the headers."""
    total, mode = content.total, content.ranges
    headers: Headers = () if tag is None else (("etag", tag),)
    if mode != "ignore":
        headers = (*headers, ("accept-ranges", "bytes"))
    span = _span(asked.get("range"), total)
    if mode == "ignore" or span is None or asked.get("if-range", tag) != tag:
        return HTTPStatus.OK, 0, total, headers
    start, stop = span
    if mode == "416" or start >= stop:
        headers = (*headers, ("content-range", f"bytes */{total}"))
        return HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0, headers
    start = min(start + 1, stop - 1) if mode == "wrong-offset" else start
    told = total + 1 if mode == "wrong-total" else total
    if mode != "no-content-range":
        headers = (*headers, ("content-range", f"bytes {start}-{stop - 1}/{told}"))
    return HTTPStatus.PARTIAL_CONTENT, start, stop, headers


def _span(asked: str | None, total: int) -> tuple[int, int] | None:
    """Return the offsets that a `Range` header requests (the end exclusive), if it does.

    A range beyond the end of the file is empty.
    """
    match = _RANGE.fullmatch(asked or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(total - int(last), 0), total
    return int(first), min(int(last) + 1, total) if last else total
