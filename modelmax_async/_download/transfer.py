"""One transfer into a sink, step by step: what may be joined, what ends it, what breaks it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn, Protocol

from modelmax_async._api.messages import as_text, parse_error
from modelmax_async._download.containers import is_page, media_type
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.names import Mark
from modelmax_async._download.ranges import joins, range_end, whole_length
from modelmax_async._http.streaming import Incoming
from modelmax_async._runtime import clock


class FinalError(Exception):
    """It cannot be fetched, and trying again at once would not help. The text says why."""


class BrokenError(Exception):
    """The transfer broke off, and is worth another try.

    ``settled``: the sink has dropped what it had, so that the next try needs no pause.
    """

    def __init__(self, text: str, *, settled: bool = False) -> None:
        super().__init__(text)
        self.settled = settled


class Sink(Protocol):
    """Where the bytes go.

    Attributes:
        offset: bytes taken so far.
        total: bytes of the whole video, ``None`` while nobody knows.
        suffix: that of a declared video of known length, ``None`` where it must be an MP4.
        mark: what the bytes are the beginning of, ``None`` where that is unknown.
        boxes: the structure of the bytes taken so far.
    """

    offset: int
    total: int | None
    suffix: str | None
    mark: Mark | None
    boxes: Boxes

    async def begin(
        self, mark: Mark | None, total: int | None, suffix: str | None = None
    ) -> None:
        """Drop what there is: what comes next begins at byte 0."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""

    async def pause(self) -> None:
        """Make safe what was taken: the transfer broke off."""


async def put(sink: Sink, chunk: bytes, end: int | None = None) -> None:
    """Hand on a chunk, unless the bytes so far are no video's, or go beyond ``end``."""
    if end is not None and sink.offset + len(chunk) > end:
        await start_over(sink, f"more than the {end} bytes announced came")
    sink.boxes.feed(chunk, sink.offset)
    if sink.boxes.alien and (sink.suffix is None or sink.boxes.text):
        raise FinalError(_no_video(sink))
    await sink.write(chunk)


async def join(headers: Mapping[str, str], sink: Sink) -> int | None:
    """Go on behind the bytes that are there, if the 206 is more of them; return its end."""
    if sink.mark is None or not joins(headers, sink.mark, sink.offset):
        await start_over(sink, "the rest of it that came does not belong to the beginning")
    sink.total = whole_length(headers) or sink.total
    return range_end(headers)


def check_status(incoming: Incoming) -> None:
    """Let a 200 and a 206 pass, raise the error of all others (API §4, §5).

    An error page is refused before it reaches the sink, which may hold much of the video.
    """
    encoding = incoming.headers.get("content-encoding", "").lower()
    if incoming.status in {200, 206}:
        if encoding not in {"", "identity"}:
            raise FinalError(f"it came compressed ({as_text(encoding, 40)}), unasked")
        check_type(incoming.headers.get("content-type", ""))
        return
    if incoming.refusal is None:
        raise FinalError(f"HTTP {incoming.status} is no answer to a download")
    raise parse_error(incoming.refusal, now=clock.wall(), job=None)


def check_type(content_type: str) -> None:
    """Let anything pass that may be a video."""
    kind = media_type(content_type)
    if is_page(kind):
        raise FinalError(f"the response is not a video (Content-Type: {as_text(kind, 80)})")


async def check_end(headers: Mapping[str, str], sink: Sink) -> None:
    """Check that the body which ended was all of the video."""
    if sink.total is not None:
        if sink.offset < sink.total:
            raise BrokenError(f"it ended after {sink.offset} of {sink.total} bytes")
        await check_whole(sink)
        return
    framed = "transfer-encoding" in headers
    if not sink.boxes.complete(sink.offset, strict=not framed):
        raise BrokenError(f"it ended after {sink.offset} bytes, in the middle of the video")


async def check_whole(sink: Sink) -> None:
    """Check what has the length that was announced: the server may have a piece, or a page."""
    boxes = sink.boxes
    if boxes.complete(sink.offset) or not (sink.suffix is None or boxes.text):
        return
    reason = _no_video(sink)
    with suppress(FinalError):  # a stream's reader has them; a file must not keep them
        await sink.begin(None, None)
    raise FinalError(reason)


def _no_video(sink: Sink) -> str:
    if sink.suffix is not None:
        return "the response is text or empty, not a video"
    if not sink.boxes.begun:
        return "the response is not an MP4 video"
    return "the response has the announced length, but is no complete MP4 video"


async def start_over(sink: Sink, text: str) -> NoReturn:
    await sink.begin(None, None)
    raise BrokenError(text, settled=True)
