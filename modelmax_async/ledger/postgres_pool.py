"""The connections of a PostgreSQL ledger."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from modelmax_async.ledger.postgres_address import Address
from modelmax_async.ledger.postgres_writer import Identity, Writer


class Pool:
    """The writer, and ``size - 1`` connections for everything else; with one, it does both."""

    def __init__(self, address: Address, size: int, identity: Identity) -> None:
        self.address = address
        self.writer: Writer = Writer(address, identity)
        self._size = size
        self._lent = asyncio.Semaphore(max(1, size - 1))
        self._idle: list[Any] = []

    @contextlib.asynccontextmanager
    async def reader(self) -> AsyncIterator[Any]:
        """Lend a connection that works, as far as is known."""
        if self._size == 1:
            async with self.writer.lock:
                await self.writer.connect()
                try:
                    yield self.writer.connection
                except BaseException:  # it may be in a transaction
                    self.writer.lose()
                    raise
            return
        async with self._lent:
            while self._idle and self._idle[-1].is_closed():
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await self.address.connect()
            try:
                yield connection
            except BaseException:
                connection.terminate()
                raise
            self._idle.append(connection)

    async def aclose(self) -> None:
        """Close the connections that are not lent, and the writer, in a bounded time."""
        idle, self._idle = self._idle, []
        seconds = self.address.timeout / 2
        closing = (connection.close(timeout=seconds) for connection in idle)
        await asyncio.gather(*closing, return_exceptions=True)
        try:
            async with asyncio.timeout(seconds), self.writer.lock:
                await self.writer.aclose()
        except TimeoutError:  # a call that hangs has it
            self.writer.lose()
