"""The pace of a batch's submits: slower while the server answers 429."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from modelmax_async._errors import RateLimitError
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.tasks import Tasks


class Pace:
    """Lets the submits of a batch go.

    After a 429 it waits, as long as the server asks for, and then lets one submit go at a time
    until one of them is accepted.
    """

    def __init__(self, tasks: Tasks, backoff: Backoff) -> None:
        self._tasks = tasks
        self._backoff = backoff
        self._refusals = 0
        self._not_before = 0.0
        self._single = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a submit may go; if it is accepted, the others may go as well."""
        if not self._refusals:
            yield
            return
        async with self._single:
            loop = asyncio.get_running_loop()
            while (rest := self._not_before - loop.time()) > 0:
                await self._tasks.sleep(rest)
            yield
            self._refusals = 0

    def refused(self, error: RateLimitError) -> None:
        """Note that the server asked for fewer submits."""
        delay = self._backoff.delay(self._refusals, error)
        until = asyncio.get_running_loop().time() + delay
        self._not_before = max(self._not_before, until)
        self._refusals += 1
