"""The connection of one ASGI request: reading, responding, and the faults of both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from modelmax_async.emulator._responses import Response

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DROP = "modelmax.drop"
"""The key in `scope["state"]` of a server's function `drop(*, flush: bool)`.

ASGI itself cannot close a connection. With `flush`, bytes written so far are still sent.
"""


@define
class Connection:
    """The connection of one request."""

    _scope: Scope
    _receive: Receive
    _send: Send
    _watcher: asyncio.Task[None] | None = field(default=None, init=False)

    async def read(self) -> bytes | None:
        """Return the request's body; `None` if the client disconnected before its end."""
        body = bytearray()
        while (message := await self._receive())["type"] != "http.disconnect":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                return bytes(body)
        return None

    async def deliver(self, response: Response) -> None:
        """Send a response with its faults; stop early if the client disconnects."""
        if response.hang and not await self._pause(response.hang):
            return
        if response.drop:
            await self._drop(flush=False)
            return
        start = {"type": "http.response.start", "status": response.status}
        await self._send({**start, "headers": response.asgi_headers()})
        if response.stream is None and response.cut is None:
            await self._write(response.body, more=False)
        elif await self._write_pieces(response):
            await self._write(b"", more=False)

    async def aclose(self) -> None:
        """Stop watching for a disconnect."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    async def _write_pieces(self, response: Response) -> bool:
        """Send the body in pieces, and return whether it should be completed."""
        left, sent = response.cut, 0
        for piece in (response.body,) if response.stream is None else response.stream:
            part = piece[:left]
            await self._write(part, more=True)
            sent += len(part)
            left = None if left is None else left - len(part)
            if left == 0 or sent == response.length:
                break
            # the pause also notices a disconnect, which `send` does not report
            if not await self._pause(response.delay):
                return False
        if response.cut is not None:
            await self._drop(flush=True)
        return response.cut is None

    async def _write(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _pause(self, seconds: float) -> bool:
        """Wait, and return whether the client is still connected."""
        watcher = self._watch()
        await asyncio.wait([watcher], timeout=seconds)
        return not watcher.done()

    async def _drop(self, *, flush: bool) -> None:
        drop = self._scope.get("state", {}).get(DROP)
        if drop is None:
            raise ConnectionResetError("the emulator dropped the connection")
        drop(flush=flush)
        # returning before the server has noticed would make it send a 500
        await asyncio.wait([self._watch()])

    def _watch(self) -> asyncio.Task[None]:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._until_gone())
        return self._watcher

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
