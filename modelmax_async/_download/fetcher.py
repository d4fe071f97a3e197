"""Fetching one video into a sink: redirects, retries, and going on where it broke off.

A sink takes bytes in order: a ``.part`` file, or the reader of a stream. It knows how far it
is; what may be joined to that is decided here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import attrs

from modelmax_async._download import sources, transfer
from modelmax_async._download.containers import media_type, suffix_of
from modelmax_async._download.names import source_digest
from modelmax_async._download.ranges import mark_of, range_headers, read_length
from modelmax_async._download.sources import Source, SourceError
from modelmax_async._download.transfer import BrokenError, FinalError, Sink
from modelmax_async._errors import APIError, TransportError
from modelmax_async._http.streaming import Incoming, Receiver
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.threads import in_thread
from modelmax_async._settings import Settings

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_AGAIN = frozenset({408, 425, 429})


@attrs.define
class _Tries:
    """Counts failures in a row; any byte further than ever before starts the count anew."""

    most: int
    furthest: int
    failures: int = 0

    def failed(self, offset: int) -> bool:
        """Count a failure, and say whether there is another try."""
        if offset > self.furthest:
            self.furthest, self.failures = offset, 0
        self.failures += 1
        return self.failures < self.most


class Fetcher:
    """Fetches videos."""

    def __init__(self, receiver: Receiver, settings: Settings, backoff: Backoff) -> None:
        self._receiver = receiver
        self._settings = settings
        self._backoff = backoff

    def judge(self, url: str) -> Source:
        """Return where ``data[].url`` is, before any I/O.

        Raises:
            SourceError: for an address that is not fetched.
        """
        return sources.source_of(url, self._settings)

    async def fill(self, source: Source, sink: Sink) -> None:
        """Bring a sink the bytes that it lacks; it returns when all are there and checked.

        Raises:
            FinalError, SourceError, APIError: it cannot be had.
            TransportError, BrokenError: it kept breaking off.
            OSError: the sink cannot take it.
        """
        if sources.is_data(source.url):
            await self._copy(source, sink)
            return
        tries = _Tries(self._backoff.policy.attempts, sink.offset)
        if 0 < sink.offset == sink.total:
            await transfer.check_whole(sink)
            return
        while True:
            try:
                await self._attempt(source, sink)
            except (APIError, TransportError, BrokenError) as exc:
                await sink.pause()
                if _is_lasting(exc) or not tries.failed(sink.offset):
                    raise
                settled = isinstance(exc, BrokenError) and exc.settled
                pause = 0.0 if settled else self._backoff.delay(tries.failures - 1, exc)
            else:
                return
            await asyncio.sleep(pause)

    async def _copy(self, source: Source, sink: Sink) -> None:
        """Decode a ``data:`` URL.

        It announces no length, so that an MP4 has to be complete; other containers cannot
        show it. It is whole at least as far as its base64 and the JSON around it are.
        """
        kind = sources.data_type(source.url)
        transfer.check_type(kind)
        pieces = await in_thread(sources.decode_data, source.url)
        await sink.begin(None, None, suffix_of(media_type(kind)))
        for piece in pieces:
            await transfer.put(sink, piece)
        if sink.suffix is None or sink.boxes.begun:
            if not sink.boxes.complete(sink.offset):
                raise FinalError("its data: URL holds no complete MP4 video")
        else:
            await transfer.check_whole(sink)

    async def _attempt(self, source: Source, sink: Sink) -> None:
        """Make one request and take what comes."""
        mark, offset = sink.mark, sink.offset
        if offset and mark is None:
            await sink.begin(None, None)
        async with self._open(source, range_headers(mark, offset)) as incoming:
            if incoming.status == 416:  # noqa: PLR2004 - Range Not Satisfiable
                await transfer.start_over(
                    sink, "the server has no more than came, in the middle of the video"
                )
            transfer.check_status(incoming)
            if incoming.status == 206:  # noqa: PLR2004 - Partial Content
                end = await transfer.join(incoming.headers, sink)
            else:
                end = read_length(incoming.headers)
                kind = media_type(incoming.headers.get("content-type", ""))
                suffix = suffix_of(kind) if end is not None else None
                digest = source_digest(source.url)
                found = mark_of(incoming.headers, digest, end, suffix)
                await sink.begin(found, end, suffix)
            async for chunk in incoming.chunks:
                await transfer.put(sink, chunk, end)
        await transfer.check_end(incoming.headers, sink)

    @asynccontextmanager
    async def _open(
        self, source: Source, headers: Mapping[str, str]
    ) -> AsyncIterator[Incoming]:
        """Send the request, and again to where it is redirected, each time judged anew."""
        for _ in range(_MOST_REDIRECTS + 1):
            await self._check_host(source)
            async with self._receiver.receive(
                source.url, headers, with_key=source.keyed
            ) as incoming:
                if incoming.status not in _REDIRECTS:
                    yield incoming
                    return
                target = incoming.headers.get("location", "")
            source = sources.follow(source, target, self._settings)
        raise SourceError(f"it was redirected more than {_MOST_REDIRECTS} times")

    async def _check_host(self, source: Source) -> None:
        """Refuse a foreign host whose name stands for an address of a private network.

        A name that does not resolve here may do so for a proxy. A name that changes its
        mind after this gains nothing: a private host has no certificate for it.
        """
        if source.keyed or self._receiver.injected:
            return
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(source.host, source.port)
        except OSError:
            return
        if any(sources.is_private(str(entry[4][0])) for entry in found):
            raise SourceError("its host is an address of a private network")


def _is_lasting(error: Exception) -> bool:
    """Whether trying again cannot help."""
    if not isinstance(error, APIError):
        return False
    return error.status_code < 500 and error.status_code not in _AGAIN  # noqa: PLR2004 - 5xx
