"""The pace of a batch's submits: slower while the server answers 429."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from modelmax_async._errors import APIError, ClientStateError, RateLimitError
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.tasks import Tasks

#: Seconds after which a submit that waits looks whether it is still wanted.
_LOOK = 1.0


class Pace:
    """Lets the submits of a batch go.

    After a 429 it waits, for as long as the server asks for, and then lets one submit go at a
    time until the server answers one of them otherwise.
    """

    def __init__(self, tasks: Tasks, backoff: Backoff) -> None:
        self._tasks = tasks
        self._backoff = backoff
        self._stopped = False
        self._refusals = 0
        self._not_before = 0.0
        self._single = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until a submit may go, and judge the pace by how it ends.

        Raises:
            ClientStateError: if the batch was left. Nothing was sent.
        """
        async with AsyncExitStack() as stack:
            if self._refusals:
                await stack.enter_async_context(self._single)
            await self._wait()
            if not self._refusals:
                await stack.aclose()  # the server has recovered: no need to go one at a time
            if self._stopped:
                raise ClientStateError("the batch was left before this request was submitted")
            try:
                yield
            except RateLimitError as exc:
                self._refused(exc)
                raise
            except APIError:
                self._refusals = 0
                raise
            self._refusals = 0

    def stop(self) -> None:
        """Let no further submit go."""
        self._stopped = True

    def rest(self) -> float:
        """Return the seconds before which no submit goes."""
        return max(0.0, self._not_before - asyncio.get_running_loop().time())

    async def _wait(self) -> None:
        while not self._stopped:
            rest = self.rest()
            if not rest:
                return
            await self._tasks.sleep(min(rest, _LOOK))

    def _refused(self, error: RateLimitError) -> None:
        """Note that the server asked for fewer submits; a burst counts once."""
        now = asyncio.get_running_loop().time()
        delay = error.retry_after or 0.0
        if now >= self._not_before:
            delay = self._backoff.delay(self._refusals, error)
            self._refusals += 1
        self._not_before = max(self._not_before, now + delay)
