"""How fast a server sends a video: a drip is broken off, and does not count as progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import attrs

from modelmax_async._download.transfer import TransientError
from modelmax_async._models import ResourceLimits


@attrs.define
class Pace:
    """The pace of one download, over all its attempts, by the event loop's clock.

    Only the time in which the SDK waits for the server counts: a disk, or the reader of a
    stream, may take as long as it likes.
    """

    _limits: ResourceLimits
    _most: int  # attempts without progress
    _furthest: int  # the offset at the last progress
    _waited: float = 0.0  # seconds since then
    failures: int = 0  # since then
    _left: float = 0.0  # seconds for which the server may stay silent

    def begin(self) -> None:
        """Begin to measure another response."""
        self._left = self._limits.least_rate_seconds

    async def next_chunk(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        """Return the next chunk of a response, ``None`` after the last one.

        Each chunk earns the server the seconds that it may take at the least rate, so that it
        is never too slow as long as it keeps to that rate.

        Raises:
            TransientError: the server was slower than the least rate, over the seconds of it.
        """
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            async with asyncio.timeout(self._left) as timeout:
                chunk = await anext(chunks, None)
        except TimeoutError:
            if not timeout.expired():
                raise  # the time limit of the request
            limits = self._limits
            raise TransientError(
                f"the server sent less than {limits.least_rate:g} bytes a second over "
                f"{limits.least_rate_seconds:g} s"
            ) from None
        finally:
            waited = clock() - begun
            self._waited += waited
        earned = len(chunk or b"") / self._limits.least_rate
        self._left = min(self._left - waited + earned, self._limits.least_rate_seconds)
        return chunk

    def failed(self, offset: int) -> bool:
        """Count a failed attempt, and return whether another one is allowed.

        An attempt that received bytes beyond the furthest ones is progress, and resets the
        count, unless they were received more slowly than at the least rate.
        """
        if offset > self._furthest + self._limits.least_rate * self._waited:
            self._furthest, self._waited, self.failures = offset, 0.0, 0
        self.failures += 1
        return self.failures < self._most

    async def pause(self, seconds: float) -> None:
        """Wait before the next attempt, which counts like waiting for the server."""
        self._waited += seconds
        await asyncio.sleep(seconds)
