"""The connections of one client: one for each request in flight, so that none queues for one.

Free calls take turns on connections that are kept. Each billed call and each submit has a new
connection, because a kept one can break in a way that leaves it open whether the request
arrived.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx

from modelmax_async._reprs import always_shown

#: Makes a transport that connects later. It is given the limits of its connection pool.
Opener = Callable[[httpx.Limits], httpx.AsyncBaseTransport]

#: The request extension that asks for a new connection, which ends with its response.
FRESH = {"modelmax_async.fresh": True}

#: The limits of one connection that is kept, and of connections that are not.
KEPT = httpx.Limits(max_connections=1, max_keepalive_connections=1)
NONE_KEPT = httpx.Limits(max_connections=None, max_keepalive_connections=0)


@always_shown
class Connections(httpx.AsyncBaseTransport):
    """A transport that lends each request a connection of its own.

    A connection that saw an error or a cancellation is closed instead of kept.
    """

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._busy: set[httpx.AsyncBaseTransport] = set()
        self._fresh: httpx.AsyncBaseTransport | None = None

    def __repr__(self) -> str:
        return f"<Connections: {len(self._busy)} busy, {len(self._idle)} idle>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on a new connection where its extensions say so, or on a kept one."""
        if request.extensions.keys() & FRESH.keys():
            self._fresh = self._fresh or self._opener(NONE_KEPT)
            return await self._fresh.handle_async_request(request)
        connection = self._idle.pop() if self._idle else self._opener(KEPT)
        self._busy.add(connection)
        try:
            response = await connection.handle_async_request(request)
        except BaseException:
            await self._give_back(connection, reusable=False)
            raise
        response.stream = _LentBody(response.stream, connection, self._give_back)
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        every = [*self._idle, *self._busy, *([self._fresh] if self._fresh else [])]
        self._idle, self._fresh = [], None
        for connection in every:
            await connection.aclose()

    async def _give_back(self, connection: httpx.AsyncBaseTransport, *, reusable: bool) -> None:
        if connection not in self._busy:
            return  # given back before
        self._busy.remove(connection)
        if reusable:
            self._idle.append(connection)
            return
        with suppress(Exception):  # a connection that fails to close spoils no response
            await connection.aclose()


class _LentBody(httpx.AsyncByteStream):
    """A response body on a kept connection, which is kept if the body is read to its end."""

    def __init__(self, body: Any, connection: httpx.AsyncBaseTransport, give_back: Any) -> None:
        self._body = body
        self._connection = connection
        self._give_back = give_back
        self._reusable = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._body:
            yield chunk
        self._reusable = True

    async def aclose(self) -> None:
        reusable, self._reusable = self._reusable, False
        try:
            await self._body.aclose()
        except BaseException:
            reusable = False
            raise
        finally:
            await self._give_back(self._connection, reusable=reusable)


def manage_one(transport: httpx.AsyncHTTPTransport) -> httpx.AsyncHTTPTransport:
    """Let a transport have a single connection, without the pool that would manage it.

    A pool of one costs a third of a poll: it looks for requests that wait, and asks at each
    step for ``sniffio``, which Python searches for again each time if it is not installed.
    """
    transport._pool = _SingleConnection(transport._pool)  # type: ignore[assignment]  # noqa: SLF001 - a contract test pins it
    return transport


class _SingleConnection:
    """One of httpcore's connections, in the place of the pool that makes it."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._connection: Any = None

    async def handle_async_request(self, request: Any) -> Any:
        """Send on the connection, or on a new one if that has gone."""
        if not self._is_usable(request.url.origin):
            await self.aclose()
            self._connection = self._pool.create_connection(request.url.origin)
        return await self._connection.handle_async_request(request)

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    def _is_usable(self, origin: Any) -> bool:
        connection = self._connection
        return (
            connection is not None
            and connection.can_handle_request(origin)
            and connection.is_available()
            and not connection.has_expired()
            and not _has_unread(connection)
        )


def _has_unread(connection: Any) -> bool:
    """Whether more than one response came with the last: the next call would get the second."""
    state = None
    while state is None and connection is not None:  # a proxy's connection has another inside
        state = getattr(connection, "_h11_state", None)
        connection = getattr(connection, "_connection", None)
    return state is not None and bool(state.trailing_data[0])
