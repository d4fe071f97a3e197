"""Slots and their connections: one connection each, so that no request queues for one."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=1)
_NONE_KEPT = httpx.Limits(max_connections=None, max_keepalive_connections=0)


class Lanes:
    """At most ``size`` requests at once, first come, first served.

    A lane is an HTTP client of a single connection, made on demand and kept for the next
    request; one that saw an error or a cancellation is thrown away, so that no broken
    connection, and no slot of the HTTP library's pool, outlives it.
    """

    def __init__(self, size: int, *, secure: bool) -> None:
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._idle: list[httpx.AsyncClient] = []
        self._busy: set[httpx.AsyncClient] = set()
        self._tls = httpx.create_ssl_context() if secure else False
        self._fresh: httpx.AsyncClient | None = None
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
    async def lane(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a kept-alive connection; the caller holds a slot."""
        client = self._idle.pop() if self._idle else self._open(_ONE)
        self._busy.add(client)
        try:
            yield client
        except BaseException:
            self._busy.discard(client)
            await client.aclose()
            raise
        self._busy.discard(client)
        self._idle.append(client)

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client that opens a new connection for each request and keeps none."""
        if self._fresh is None:
            self._fresh = self._open(_NONE_KEPT)
        yield self._fresh

    async def aclose(self) -> None:
        """Close every connection."""
        clients = [*self._idle, *self._busy, *([self._fresh] if self._fresh else [])]
        self._idle, self._fresh = [], None
        for client in clients:
            await client.aclose()

    def _open(self, limits: httpx.Limits) -> httpx.AsyncClient:
        # The environment's proxies are honoured; its TLS settings went into the context.
        tls: ssl.SSLContext | bool = self._tls
        return httpx.AsyncClient(verify=tls, limits=limits, http1=True, http2=False)
