"""How many files the downloads of a client have open at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from modelmax_async._download.sources import Source, is_data

#: The most open files, unless ``max_in_flight`` is more. Many of them wait for a slot, or
#: between two attempts.
_OPEN = 128
#: The most ``data:`` URLs that are decoded and written at once.
_COPIES = 8


class OpenFiles:
    """The places for the open files of one client, first come, first served.

    Videos of other hosts, whose names may be slow to look up, have half of them, so that a
    result which names hundreds of such hosts does not hold up the videos of the API's origin.
    """

    def __init__(self, max_in_flight: int) -> None:
        most = max(_OPEN, max_in_flight)
        self._all = asyncio.Semaphore(most)
        self._foreign = asyncio.Semaphore(max(1, most // 2))
        self._copies = asyncio.Semaphore(_COPIES)

    @asynccontextmanager
    async def place(self, source: Source) -> AsyncIterator[None]:
        """Wait for a place for the file of a video, and hold it."""
        share = self._copies if is_data(source.url) else self._foreign
        async with nullcontext() if source.keyed else share, self._all:
            yield
