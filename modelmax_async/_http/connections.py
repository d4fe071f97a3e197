"""Slots and their connections: one connection each, so that no request queues for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress

import httpx

from modelmax_async._http.absent import remember_absent
from modelmax_async._http.proxies import Opener

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)
_NONE_KEPT = httpx.Limits(max_connections=None, max_keepalive_connections=0)


class Lanes:
    """At most ``size`` requests at once, first come, first served.

    A lane is an HTTP transport of a single connection, made on demand and kept for the next
    request; one that saw an error or a cancellation is thrown away, so that no broken
    connection, and no slot of the HTTP library's pool, outlives it.
    """

    def __init__(self, size: int, opener: Opener) -> None:
        remember_absent("sniffio")
        self._opener = opener
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._long = asyncio.Semaphore(max(1, size // 2))
        self._idle: list[httpx.AsyncHTTPTransport] = []
        self._busy: set[httpx.AsyncHTTPTransport] = set()
        self._fresh: httpx.AsyncHTTPTransport | None = None
        self.out = 0

    def __repr__(self) -> str:
        return f"<Lanes: {self.out} of {self._size} out, {len(self._idle)} idle>"

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for one of the slots, and hold it."""
        async with self._free:
            self.out += 1
            try:
                yield
            finally:
                self.out -= 1

    @asynccontextmanager
    async def long_slot(self) -> AsyncIterator[None]:
        """Wait for a slot that may be held for long, and hold it: half of all at most.

        Where there is only one, it is beside that one, which calls need.
        """
        async with self._long, self.slot() if self._size > 1 else nullcontext():
            yield

    def take(self, *, fresh: bool) -> httpx.AsyncHTTPTransport:
        """Lend the holder of a slot a kept connection, or one that is made for the request."""
        if fresh:
            self._fresh = self._fresh or self._open(_NONE_KEPT)
            return self._fresh
        client = self._idle.pop() if self._idle else self._open(_ONE)
        self._busy.add(client)
        return client

    async def give_back(self, client: httpx.AsyncHTTPTransport, *, good: bool) -> None:
        """Keep a lane for the next request, or close it when its exchange broke."""
        if client is self._fresh:
            return
        self._busy.discard(client)
        if good:
            self._idle.append(client)
        else:
            with suppress(Exception):  # a connection that ends badly takes no answer with it
                await client.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        clients = [*self._idle, *self._busy, *([self._fresh] if self._fresh else [])]
        self._idle, self._fresh = [], None
        for client in clients:
            await client.aclose()

    def _open(self, limits: httpx.Limits) -> httpx.AsyncHTTPTransport:
        return self._opener(limits)
