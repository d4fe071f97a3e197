"""Where the bytes of a video are written: to its ``.part``, or to the reader of a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from modelmax_async._download.containers import MP4, VIDEO_MP4
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.part_file import PartFile
from modelmax_async._download.part_names import ResumeInfo, source_digest
from modelmax_async._download.transfer import PermanentError, Sink
from modelmax_async._errors import ModelMaxError, fresh
from modelmax_async._runtime.threads import in_thread

#: Bytes that are collected before a thread writes them. They are copied into one of two
#: buffers: keeping the chunks would make the allocator return and fault memory all the time.
_BATCH = 2 * 1024 * 1024
#: Bytes between two reports of progress.
_STEP = 256 * 1024
#: Chunks that a stream holds for a reader that is slower than the server.
_AHEAD = 16

Report = Callable[[int, int | None], None]


class FileSink(Sink):
    """Writes a ``.part`` in threads: one batch while the next is collected."""

    def __init__(self, part: PartFile, report: Report, most: int) -> None:
        super().__init__(part.size, part.resume_info)
        self.most = most
        self._part = part
        self._report = report
        self._buffers: list[bytearray] = []  # freed between transfers: many sinks may wait
        self._collected = 0
        self._reported = 0
        self._writing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, part: PartFile, url: str, report: Report, most: int) -> FileSink:
        """Resume after the bytes of the ``.part``, or empty it if they are of another URL.

        ``most`` is the size in bytes above which the video is refused.
        """
        sink = cls(part, report, most)
        if part.resume_info is not None and part.resume_info.source == source_digest(url):
            sink.boxes = await in_thread(part.scan)
            if sink.boxes.is_mp4 or not (sink.suffix is None or sink.boxes.is_text):
                await in_thread(part.check_room, sink.total)
                sink._report_progress()
                return sink
        await sink.reset(None, None)
        return sink

    async def reset(
        self, info: ResumeInfo | None, total: int | None, suffix: str | None = None
    ) -> None:
        """Empty the file."""
        self._collected = 0
        await _ended(self._writing)
        await in_thread(self._part.reset, info, total)
        self.resume_info, self.total, self.suffix = info, total, suffix
        self.offset, self.boxes = 0, Boxes()
        self._report_progress()

    async def write(self, chunk: bytes) -> None:
        """Collect the bytes, and start to write them when a batch is full."""
        rest = memoryview(chunk)
        while rest:
            taken = rest[: _BATCH - self._collected]
            end = self._collected + len(taken)
            self._make_room(end)
            self._buffers[0][self._collected : end] = taken
            self._collected = end
            self.offset += len(taken)
            rest = rest[len(taken) :]
            if end == _BATCH:
                await self._write_batch()
        if self.offset >= self._reported + _STEP:
            self._report_progress()

    async def flush(self) -> None:
        """Write the collected bytes, and wait until they are written."""
        if self._collected:
            await self._write_batch()
            self._report_progress()
        await _ended(self._writing)
        self._buffers = []

    async def finish(self) -> Path:
        """Rename the complete file to the video's name, and return its path."""
        await self.flush()
        place = await in_thread(self._part.finish, self.suffix or MP4)
        self._report(self.offset, self.offset)
        return place

    def _make_room(self, size: int) -> None:
        """Let the buffer grow to a size in bytes: a small video takes little memory.

        It is replaced, not resized: the thread that wrote it may still hold a view of it.
        """
        if not self._buffers:
            self._buffers = [bytearray(), bytearray()]
        old = self._buffers[0]
        if len(old) < size:
            self._buffers[0] = bytearray(min(_BATCH, max(size, 2 * len(old))))
            self._buffers[0][: self._collected] = memoryview(old)[: self._collected]

    async def _write_batch(self) -> None:
        """Start to write the full buffer once the other one is written, and swap them."""
        await _ended(self._writing)
        batch = memoryview(self._buffers[0])[: self._collected]
        self._buffers.reverse()
        self._collected = 0
        self._writing = _in_thread(lambda: self._part.append(batch))

    def _report_progress(self) -> None:
        self._reported = self.offset
        self._report(self.offset, self.total)


def _in_thread(work: Callable[[], None]) -> asyncio.Task[None]:
    """Start work in a thread; its error is raised by `_ended`, or dropped without a log."""
    task = asyncio.ensure_future(in_thread(work))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Wait for work in a thread. Cancelling this does not cancel the work."""
    if task is not None:
        await asyncio.wait([task])
        task.result()


class StreamSink(Sink, AsyncIterator[bytes]):
    """Passes chunks to a reader, and stays a bounded number of chunks ahead of it."""

    def __init__(self) -> None:
        super().__init__()
        self._chunks: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._closed = False
        self._error: ModelMaxError | None = None

    async def reset(
        self, info: ResumeInfo | None, total: int | None, suffix: str | None = None
    ) -> None:
        """Start the stream; it cannot be started over, since the reader may have the bytes."""
        if self.offset:
            raise PermanentError(
                f"the transfer was interrupted after {self.offset} bytes and cannot be resumed"
            )
        self.resume_info, self.total, self.suffix = info, total, suffix

    async def write(self, chunk: bytes) -> None:
        """Wait until there is room for the chunk, and add it."""
        while len(self._chunks) >= _AHEAD:
            self._room.clear()
            await self._room.wait()
        self.offset += len(chunk)
        self._chunks.append(chunk)
        self._news.set()

    async def flush(self) -> None:
        """Do nothing: chunks are not collected."""

    def close(self, error: ModelMaxError | None) -> None:
        """End the stream after the chunks that are left, unless it has ended before."""
        if not self._closed:
            self._closed, self._error = True, error
            self._news.set()

    async def ready(self) -> None:
        """Wait for the next chunk or the end, and raise the error if one ended the stream."""
        while not (self._chunks or self._closed):
            self._news.clear()
            await self._news.wait()
        if not self._chunks and self._error is not None:
            raise fresh(self._error)

    @property
    def content_type(self) -> str:
        """The media type of the video; without a declared one, it has to be an MP4."""
        return VIDEO_MP4 if self.suffix is None else self.media_type

    async def __anext__(self) -> bytes:
        """Return the next chunk; after the last one, raise the error that ended the stream."""
        await self.ready()
        if not self._chunks:
            raise StopAsyncIteration
        chunk = self._chunks.popleft()
        self._room.set()
        return chunk
