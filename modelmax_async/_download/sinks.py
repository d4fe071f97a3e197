"""Where the bytes of a video go: into its ``.part``, or to the reader of a stream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from modelmax_async._download.containers import MP4
from modelmax_async._download.mp4 import Boxes
from modelmax_async._download.names import Mark, source_digest
from modelmax_async._download.part_file import PartFile
from modelmax_async._download.transfer import FinalError
from modelmax_async._errors import ModelMaxError, fresh
from modelmax_async._runtime.threads import in_thread

#: Bytes that are collected before a thread writes them. They are copied into one of two
#: buffers: to keep the chunks instead makes the allocator return and fault memory all the time.
_BATCH = 2 * 1024 * 1024
#: Bytes between two reports of progress.
_STEP = 256 * 1024
#: Chunks that a stream holds for a reader that is slower than the server.
_AHEAD = 16

Report = Callable[[int, int | None], None]


class FileSink:
    """Writes a ``.part`` in threads; see `modelmax_async._download.transfer.Sink`.

    One batch is written while the next is collected.
    """

    def __init__(self, part: PartFile, report: Report) -> None:
        self._part = part
        self._report = report
        self._buffers: list[bytearray] = []  # only while bytes come: many sinks may wait
        self._collected = 0
        self._told = 0
        self._writing: asyncio.Task[None] | None = None
        self.offset = part.size
        self.mark: Mark | None = part.mark
        self.total = part.mark.total if part.mark is not None else None
        self.suffix = part.mark.suffix if part.mark is not None else None
        self.boxes = Boxes()

    @classmethod
    async def open(cls, part: PartFile, url: str, report: Report) -> FileSink:
        """Go on behind what the ``.part`` holds, if that came from the same address."""
        sink = cls(part, report)
        if part.mark is not None and part.mark.source == source_digest(url):
            sink.boxes = await in_thread(part.scan)
            if sink.boxes.begun or not (sink.suffix is None or sink.boxes.text):
                sink._tell()
                return sink
        await sink.begin(None, None)
        return sink

    async def begin(
        self, mark: Mark | None, total: int | None, suffix: str | None = None
    ) -> None:
        """Empty the file."""
        self._collected = 0
        await _ended(self._writing)
        await in_thread(self._part.begin, mark)
        self.mark, self.total, self.suffix = mark, total, suffix
        self.offset, self.boxes = 0, Boxes()
        self._tell()

    async def write(self, chunk: bytes) -> None:
        """Collect the bytes, and have them written when there are enough."""
        if not self._buffers:
            self._buffers = [bytearray(_BATCH), bytearray(_BATCH)]
        rest = memoryview(chunk)
        while rest:
            taken = rest[: _BATCH - self._collected]
            end = self._collected + len(taken)
            self._buffers[0][self._collected : end] = taken
            self._collected = end
            self.offset += len(taken)
            rest = rest[len(taken) :]
            if end == _BATCH:
                await self._write_batch()
        if self.offset >= self._told + _STEP:
            self._tell()

    async def pause(self) -> None:
        """Write what was collected, and see it written."""
        if self._collected:
            await self._write_batch()
            self._tell()
        await _ended(self._writing)
        self._buffers = []

    async def finish(self) -> Path:
        """Put the whole video in its place, and return that."""
        await self.pause()
        place = await in_thread(self._part.finish, self.suffix or MP4)
        self._report(self.offset, self.offset)
        return place

    async def _write_batch(self) -> None:
        """Have the full buffer written, once the other one is, and go on with that."""
        await _ended(self._writing)
        batch = memoryview(self._buffers[0])[: self._collected]
        self._buffers.reverse()
        self._collected = 0
        self._writing = _in_thread(lambda: self._part.append(batch))

    def _tell(self) -> None:
        self._told = self.offset
        self._report(self.offset, self.total)


def _in_thread(work: Callable[[], None]) -> asyncio.Task[None]:
    """Start work in a thread; its error is for who waits for it, if anybody does."""
    task = asyncio.ensure_future(in_thread(work))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


async def _ended(task: asyncio.Task[None] | None) -> None:
    """Wait for work in a thread; cancelled, leave it to end by itself."""
    if task is not None:
        await asyncio.wait([task])
        task.result()


class StreamSink:
    """Hands chunks to a reader, a bounded number ahead of it; the same protocol."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._error: ModelMaxError | None = None
        self.offset = 0
        self.mark: Mark | None = None
        self.total: int | None = None
        self.suffix: str | None = None
        self.boxes = Boxes()

    async def begin(
        self, mark: Mark | None, total: int | None, suffix: str | None = None
    ) -> None:
        """Begin, but not once more: bytes that were read cannot be taken back."""
        if self.offset:
            raise FinalError(
                f"it broke off after {self.offset} bytes, and cannot be gone on with"
            )
        self.mark, self.total, self.suffix = mark, total, suffix

    async def write(self, chunk: bytes) -> None:
        """Wait for room, and put the chunk there."""
        while len(self._chunks) >= _AHEAD:
            self._room.clear()
            await self._room.wait()
        self.offset += len(chunk)
        self._chunks.append(chunk)
        self._news.set()

    async def pause(self) -> None:
        """Do nothing: what was handed over is safe."""

    def close(self, error: ModelMaxError | None) -> None:
        """End the stream, behind the chunks that are still there."""
        if not self._over:
            self._over, self._error = True, error
            self._news.set()

    async def ready(self) -> None:
        """Wait for the first chunk, or raise what comes instead of it."""
        while not (self._chunks or self._over):
            self._news.clear()
            await self._news.wait()
        if not self._chunks and self._error is not None:
            raise fresh(self._error)

    async def read(self) -> AsyncIterator[bytes]:
        """Yield the chunks to the last; then raise what ended the stream, if it was cut."""
        while True:
            await self.ready()
            if not self._chunks:
                return
            chunk = self._chunks.popleft()
            self._room.set()
            yield chunk
