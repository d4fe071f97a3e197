"""Fetching one video into a sink: redirects, retries, and resuming after an interruption.

A sink takes bytes in order: a ``.part`` file, or the reader of a stream. This module decides
which bytes of a response continue those that the sink has.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

from modelmax_async._download import sources, transfer
from modelmax_async._download.containers import media_type
from modelmax_async._download.pace import Pace
from modelmax_async._download.part_names import source_digest
from modelmax_async._download.ranges import range_headers, read_length, resume_info_of
from modelmax_async._download.sources import Source
from modelmax_async._download.transfer import Sink
from modelmax_async._errors import APIError, TransportError
from modelmax_async._http.addresses import RefusedError
from modelmax_async._http.streaming import Incoming, Receiver
from modelmax_async._models import Job
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff, is_final
from modelmax_async._runtime.threads import in_thread
from modelmax_async._settings import Settings
from modelmax_async.events import CallRetried

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)


class Fetcher:
    """Fetches videos."""

    def __init__(
        self, receiver: Receiver, settings: Settings, backoff: Backoff, hooks: Hooks
    ) -> None:
        self._receiver = receiver
        self._settings = settings
        self._backoff = backoff
        self._hooks = hooks

    async def fill(self, source: Source, sink: Sink, job: Job | None = None) -> None:
        """Write the missing bytes of a video to a sink, and check that it is complete.

        ``job`` is that of the video, for hooks and the log.

        Raises:
            PermanentError, SourceError, APIError: the video cannot be fetched.
            TransportError, TransientError: the last attempt was interrupted.
            OSError: the sink cannot be written to.
        """
        if sources.is_data(source.url):
            await self._copy(source, sink)
            return
        pace = Pace(self._settings.limits, self._backoff.policy.attempts, sink.offset)
        if 0 < sink.offset == sink.total:
            await transfer.check_complete(sink)
            return
        while True:
            try:
                await self._attempt(source, sink, pace, job)
            except (APIError, TransportError, transfer.TransientError) as exc:
                await sink.flush()
                # a 404 is final at once: a missing video does not appear later
                final = isinstance(exc, APIError) and is_final(exc.status_code, math.inf)
                if final or not pace.failed(sink.offset):
                    raise
                at_once = isinstance(exc, transfer.StartOverError)
                delay = 0.0 if at_once else self._backoff.delay(pace.failures - 1, exc)
                self._hooks.emit(_retried(exc, delay, job))
            else:
                return
            await pace.pause(delay)

    async def _copy(self, source: Source, sink: Sink) -> None:
        """Decode a ``data:`` URL.

        It announces no length, so an MP4 must be complete. Other containers cannot show that;
        they are as complete as their base64 and the JSON around it.
        """
        kind = sources.data_type(source.url)
        suffix = transfer.check_type(kind)
        pieces = await in_thread(sources.decode_data, source.url)
        await sink.reset(None, sum(map(len, pieces)), suffix)
        sink.media_type = media_type(kind)
        for piece in pieces:
            await transfer.write_chunk(sink, piece)
            await asyncio.sleep(0)  # a piece may hold thousands of boxes to walk
        if sink.suffix is None or sink.boxes.is_mp4:
            if not sink.boxes.complete(sink.offset):
                raise transfer.PermanentError("the data: URL is not a complete MP4 video")
        else:
            await transfer.check_complete(sink)

    async def _attempt(self, source: Source, sink: Sink, pace: Pace, job: Job | None) -> None:
        """Make one request, and write its response body to the sink."""
        info, offset = sink.resume_info, sink.offset
        if offset and info is None:
            await sink.reset(None, None)
        async with self._open(source, range_headers(info, offset), job) as incoming:
            if incoming.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                await transfer.start_over(
                    sink,
                    f"the server has only {offset} bytes, which end in the middle of the video",
                )
            suffix = transfer.check_status(incoming)
            if incoming.status == HTTPStatus.PARTIAL_CONTENT:
                end: int | None = await transfer.resume(incoming.headers, sink)
            else:
                end = read_length(incoming.headers)
                transfer.check_size(sink, end)
                suffix = None if end is None else suffix
                digest = source_digest(source.url)
                found = resume_info_of(incoming.headers, digest, end, suffix)
                await sink.reset(found, end, suffix)
                sink.media_type = media_type(incoming.headers.get("content-type", ""))
            pace.begin()
            while (chunk := await pace.next_chunk(incoming.chunks)) is not None:
                await transfer.write_chunk(sink, chunk, end)
        await transfer.check_end(incoming.headers, sink)

    @asynccontextmanager
    async def _receive(
        self, source: Source, headers: Mapping[str, str], job: Job | None
    ) -> AsyncIterator[Incoming]:
        try:
            async with self._receiver.receive(
                source.url, headers, with_key=source.keyed, job=job
            ) as incoming:
                yield incoming
        except RefusedError as exc:
            raise sources.SourceError(str(exc)) from None

    @asynccontextmanager
    async def _open(
        self, source: Source, headers: Mapping[str, str], job: Job | None
    ) -> AsyncIterator[Incoming]:
        """Send the request and follow its redirects, each of which is checked anew."""
        for _ in range(_MOST_REDIRECTS + 1):
            async with self._receive(source, headers, job) as incoming:
                if incoming.status not in _REDIRECTS:
                    yield incoming
                    return
                target = incoming.headers.get("location", "")
            source = sources.follow_redirect(source, target, self._settings)
        raise sources.SourceError(f"the server redirected more than {_MOST_REDIRECTS} times")


def _retried(error: Exception, delay: float, job: Job | None) -> CallRetried:
    model = None if job is None else job.model
    return CallRetried(call="content", cause=str(error), delay=delay, model=model, job=job)
