"""Slots: how many requests of one client are in flight at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

from modelmax_async._reprs import always_shown


@always_shown
class Slots:
    """At most ``max_in_flight`` requests at once, first come, first served."""

    def __init__(self, max_in_flight: int) -> None:
        self._max_in_flight = max_in_flight
        self._free = asyncio.Semaphore(max_in_flight)
        self._long = asyncio.Semaphore(max(1, max_in_flight // 2))
        self.in_flight = 0

    def __repr__(self) -> str:
        return f"<Slots: {self.in_flight} of {self._max_in_flight} in flight>"

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it."""
        async with self._free:
            self.in_flight += 1
            try:
                yield
            finally:
                self.in_flight -= 1

    @asynccontextmanager
    async def long_slot(self) -> AsyncIterator[None]:
        """Wait for a slot that may be held for long, and hold it: half of all at most.

        With ``max_in_flight=1``, it is an additional slot, because calls need the only one.
        """
        async with self._long, self.slot() if self._max_in_flight > 1 else nullcontext():
            yield
