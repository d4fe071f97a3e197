"""The steps of one transfer into a sink: which bytes are joined, and how it ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import NoReturn

from modelmax_async._api.messages import as_text, parse_error
from modelmax_async._download.containers import is_error_page, media_type, suffix_of
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.part_names import ResumeInfo
from modelmax_async._download.ranges import continuation
from modelmax_async._http.streaming import Incoming
from modelmax_async._runtime import clock

#: The most bytes of one video, unless the caller allows more.
MAX_BYTES = 4 * 2**30


class PermanentError(Exception):
    """The video cannot be fetched, and a retry would not help. The text says why."""


class TooLargeError(PermanentError):
    """The video has more bytes than the caller allows. The text says how many."""


class TransientError(Exception):
    """The transfer ended early, and is worth a retry. The text says why."""


class StartOverError(TransientError):
    """The sink was emptied, so that the retry needs no delay."""


class Sink(ABC):
    """Where the bytes of a video are written."""

    def __init__(self, offset: int = 0, info: ResumeInfo | None = None) -> None:
        self.offset = offset  # bytes written so far
        self.boxes = Boxes()  # their structure
        self.resume_info = info  # what they belong to, if they can be resumed
        self.total = info.total if info else None  # bytes of the whole video, if known
        #: That of a declared video of known length, ``None`` where it must be an MP4.
        self.suffix = info.suffix if info else None
        self.media_type = ""  # as the server declared it, in lower case
        self.most: int | None = None  # bytes that the caller allows

    @abstractmethod
    async def reset(
        self, info: ResumeInfo | None, total: int | None, suffix: str | None = None
    ) -> None:
        """Discard all bytes: the next chunk begins at byte 0."""

    @abstractmethod
    async def write(self, chunk: bytes) -> None:
        """Write the next bytes."""

    @abstractmethod
    async def flush(self) -> None:
        """Wait until all bytes are written: the transfer was interrupted."""


async def write_chunk(sink: Sink, chunk: bytes, end: int | None = None) -> None:
    """Write a chunk, unless the bytes are not those of a video, or extend beyond ``end``."""
    if end is not None and sink.offset + len(chunk) > end:
        await start_over(sink, f"the response is longer than the {end} bytes announced")
    if sink.most is not None and sink.offset + len(chunk) > sink.most:
        await sink.flush()  # a larger bound lets the next call resume
        raise TooLargeError(f"it has more than the {sink.most} bytes that max_bytes allows")
    sink.boxes.feed(chunk, sink.offset)
    if sink.boxes.is_not_mp4 and (sink.suffix is None or sink.boxes.is_text):
        raise PermanentError(_why_not_a_video(sink))
    await sink.write(chunk)


def check_size(sink: Sink, size: int | None) -> None:
    """Refuse a video of more bytes than the caller allows, before the sink is reset."""
    if sink.most is not None and size is not None and size > sink.most:
        raise TooLargeError(f"it has {size} bytes, and max_bytes allows {sink.most}")


async def resume(headers: Mapping[str, str], sink: Sink) -> int:
    """Accept a 206 that continues the sink's bytes, and return the offset of its end."""
    info = sink.resume_info
    found = continuation(headers, info, sink.offset) if info is not None else None
    if found is None:
        await start_over(sink, "the partial response does not continue the bytes received")
    sink.total = found.total or sink.total
    check_size(sink, sink.total)
    return found.end


def check_status(incoming: Incoming) -> str | None:
    """Accept a 200 and a 206 as `check_type`, and raise the error of others (API §4, §5).

    An error page is refused before the sink is reset, which may hold much of the video.
    """
    encoding = incoming.headers.get("content-encoding", "").lower()
    if incoming.status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        if encoding not in {"", "identity"}:
            raise PermanentError(
                f"the response is compressed (Content-Encoding: {as_text(encoding, 40)}), "
                "although the request did not allow it"
            )
        return check_type(incoming.headers.get("content-type", ""))
    if incoming.refusal is None:
        raise PermanentError(f"an HTTP {incoming.status} is neither a video nor an error")
    raise parse_error(incoming.refusal, now=clock.wall(), job=None)


def check_type(content_type: str) -> str | None:
    """Refuse the Content-Type of an error page, and return the suffix of any other."""
    kind = media_type(content_type)
    if is_error_page(kind):
        raise PermanentError(f"the response is not a video (Content-Type: {as_text(kind, 80)})")
    return suffix_of(kind)


async def check_end(headers: Mapping[str, str], sink: Sink) -> None:
    """Check at the end of a response body that the video is complete."""
    ended = f"the response ended after {sink.offset}"
    if sink.total is None:
        framed = "transfer-encoding" in headers
        if not sink.boxes.complete(sink.offset, strict=not framed):
            raise TransientError(f"{ended} bytes, in the middle of the video")
    elif sink.offset < sink.total:
        raise TransientError(f"{ended} of {sink.total} bytes")
    else:
        await check_complete(sink)


async def check_complete(sink: Sink) -> None:
    """Check a body of the announced length: the server may hold only a part, or a page."""
    boxes = sink.boxes
    if boxes.complete(sink.offset) or not (sink.suffix is None or boxes.is_text):
        return
    reason = _why_not_a_video(sink)
    with suppress(PermanentError):  # a stream's reader has the bytes; a file must not keep them
        await sink.reset(None, None)
    raise PermanentError(reason)


def _why_not_a_video(sink: Sink) -> str:
    if sink.suffix is not None:
        return "the response is text or empty, not a video"
    if not sink.boxes.is_mp4:
        return "the response is not an MP4 video"
    return "the response has the announced length, but is not a complete MP4 video"


async def start_over(sink: Sink, text: str) -> NoReturn:
    """Discard the sink's bytes, and raise the error that makes the transfer start over."""
    await sink.reset(None, None)
    raise StartOverError(text)
