"""An httpx transport that calls an ASGI application without a socket.

Unlike `httpx.ASGITransport` it passes bytes on as they are sent, lets the client disconnect
early, applies httpx's read timeout in loop time, and raises the errors of a real connection
when that is dropped. Once a request is sent, the application handles it to the end even if the
client is cancelled, as a remote server would.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import httpx

from modelmax_async.emulator._connection import DROP, Message, Receive, Scope, Send

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_AHEAD = 4
"""The most pieces that the application may be ahead of the client."""


class _Exchange(httpx.AsyncByteStream):
    """The state that the client and the application share, and the response body."""

    def __init__(self, body: bytes, timeout: float | None) -> None:
        self._request: list[bytes] = [body]
        self._timeout = timeout
        self._pieces: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._over = asyncio.Event()
        self._announced: int | None = None
        self._sent = 0
        self._complete = False
        self._broken: BaseException | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []

    async def receive(self) -> Message:
        if self._request:
            return {"type": "http.request", "body": self._request.pop(), "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._over.is_set():
            return
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
            length = dict(self.headers).get(b"content-length")
            self._announced = None if length is None else int(length)
        else:
            await self._send_body(message["body"], more=message["more_body"])
        self._news.set()

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if body:
            self._pieces.append(body)
            self._sent += len(body)
            self._news.set()
        # a client stops reading after Content-Length bytes, whatever follows
        self._complete = not more or self._sent == self._announced
        if not more:
            self._over.set()
        while len(self._pieces) >= _AHEAD and not self._over.is_set():
            self._room.clear()
            await self._room.wait()

    def drop(self, *, flush: bool) -> None:
        """Close the connection as the server."""
        if not flush:
            self._pieces.clear()
        text = (
            "peer closed connection without sending complete message body (incomplete read)"
            if self.status
            else "Server disconnected without sending a response."
        )
        self.fail(httpx.RemoteProtocolError(text))

    def fail(self, error: BaseException | None) -> None:
        """End the exchange; the client gets the error after the bytes that are left."""
        silence = httpx.RemoteProtocolError("the application ended without a response")
        self._broken = self._broken or error or silence
        self.leave()
        self._news.set()

    def leave(self) -> None:
        """Close the connection as the client."""
        self._over.set()
        self._room.set()

    async def started(self) -> None:
        """Wait for the status line."""
        async with self._read_timeout():
            while not self.status:
                await self._more_news()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (piece := await self._piece()) is not None:
            yield piece

    async def aclose(self) -> None:
        self.leave()

    async def _piece(self) -> bytes | None:
        """Return the next bytes; `None` at the end."""
        async with self._read_timeout():
            while not self._pieces:
                if self._complete:
                    await self._over.wait()  # so that the request counts as handled
                    return None
                await self._more_news()
        self._room.set()
        return self._pieces.popleft()

    @asynccontextmanager
    async def _read_timeout(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no response within {self._timeout} s") from error

    async def _more_news(self) -> None:
        if self._broken is not None:
            raise self._broken
        self._news.clear()
        await self._news.wait()


class InProcessTransport(httpx.AsyncBaseTransport):
    """Send requests to an ASGI application in the same event loop."""

    #: Tells a client that each request is sent once, directly after the ``trace`` callback of
    #: its extensions is called, as in httpcore.
    emits_httpcore_trace_events = True

    def __init__(self, app: App) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and wait for the status line."""
        assert isinstance(request.stream, httpx.AsyncByteStream)  # noqa: S101 - for the type checker
        body = b"".join([part async for part in request.stream])
        if (trace := request.extensions.get("trace")) is not None:  # as in httpcore
            await trace("http11.send_request_headers.started", {"request": request})
            await trace("http11.send_request_headers.complete", {"return_value": None})
        exchange = _Exchange(body, request.extensions.get("timeout", {}).get("read"))
        self._start(exchange, request)
        try:
            await exchange.started()
        except BaseException:
            exchange.leave()
            raise
        reason = HTTPStatus(exchange.status).phrase.encode("ascii")
        return httpx.Response(
            exchange.status,
            headers=exchange.headers,
            stream=exchange,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": reason},
        )

    async def aclose(self) -> None:
        """Cancel all running requests."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, exchange: _Exchange, request: httpx.Request) -> None:
        async def run() -> None:
            try:
                await self._app(_scope(request, exchange), exchange.receive, exchange.send)
            except Exception as error:  # noqa: BLE001 - it is raised for the client
                exchange.fail(error)
            finally:
                exchange.fail(None)

        task = asyncio.get_running_loop().create_task(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _scope(request: httpx.Request, exchange: _Exchange) -> dict[str, Any]:
    raw_path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 1),
        "state": {DROP: exchange.drop},
    }
