"""Telling waiting clients that another process has changed a job, by ``LISTEN``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from modelmax_async.ledger.postgres_address import Address
from modelmax_async.ledger.postgres_transaction import channel, topic
from modelmax_async.ledger.protocol import Key

#: Seconds between two signs of life of the listening connection.
_BEAT = 15.0
#: Seconds before it is connected again, at first and at most.
_PAUSE, _LONGEST = 0.1, 5.0


class Changes:
    """The keys that callers wait for, and the connection that hears of them."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._awaited: dict[str, set[asyncio.Future[None]]] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, key: Key) -> asyncio.Future[None]:
        """Return a future that is done once the entry of a key may have changed."""
        loop = asyncio.get_running_loop()
        name, future = topic(key), loop.create_future()
        self._awaited.setdefault(name, set()).add(future)
        future.add_done_callback(lambda done: self._forget(name, done))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._listen())
        return future

    def _forget(self, name: str, future: asyncio.Future[None]) -> None:
        futures = self._awaited.get(name, set())
        futures.discard(future)
        if not futures:
            self._awaited.pop(name, None)

    async def aclose(self) -> None:
        """Listen no longer, unless callers of another client still wait."""
        if self._task is not None and not self._awaited:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen(self) -> None:
        """Stay connected. After a gap, every key may have changed."""
        pause = _PAUSE
        while True:
            with contextlib.suppress(Exception):
                connection = await self._address.connect()
                try:
                    await connection.add_listener(channel(self._address.schema), self._hear)
                    self._tell(*self._awaited)
                    pause = _PAUSE
                    await self._stay(connection)
                finally:
                    connection.terminate()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    async def _stay(self, connection: Any) -> None:
        """Return once the connection does not answer any more."""
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        while not ended.is_set():
            try:
                async with asyncio.timeout(_BEAT):
                    await ended.wait()
            except TimeoutError:
                await connection.fetchval("SELECT 1", timeout=self._address.timeout)

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: str) -> None:
        self._tell(*payload.split(","))

    def _tell(self, *names: str) -> None:
        for name in names:
            for future in self._awaited.pop(name, ()):
                if not future.done():
                    future.set_result(None)
