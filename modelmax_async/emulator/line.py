"""One HTTP exchange seen from the ASGI side: read, wait, answer, hang up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelmax_async.emulator.answers import Answer

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DROP = "modelmax.drop"
"""Where a server puts its `drop(*, flush: bool)` into `scope["state"]`.

ASGI itself has no word for closing a connection. With `flush`, bytes written so far
still go out.
"""


class Line:
    """The connection of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._watcher: asyncio.Task[None] | None = None

    async def read(self) -> bytes | None:
        """Return the request's body; `None` if the client left before its end."""
        body = bytearray()
        more = True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)

    async def deliver(self, answer: Answer) -> None:
        """Send an answer, as badly as it says; ends early if the client leaves."""
        if answer.hang and not await self._pause(answer.hang):
            return
        if answer.drop:
            await self._drop(flush=False)
            return
        start = {"type": "http.response.start", "status": answer.status}
        await self._send({**start, "headers": answer.wire_headers()})
        if answer.stream is None and answer.cut is None:
            await self._write(answer.body, more=False)
        elif await self._write_pieces(answer):
            await self._write(b"", more=False)

    async def aclose(self) -> None:
        """End the watch over the client, if there is one."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.wait([self._watcher])

    async def _write_pieces(self, answer: Answer) -> bool:
        """Send the body piece by piece; return whether it is to be completed."""
        left, sent = answer.cut, 0
        for piece in (answer.body,) if answer.stream is None else answer.stream:
            part = piece[:left]
            await self._write(part, more=True)
            sent += len(part)
            left = None if left is None else left - len(part)
            if left == 0 or sent == answer.length:
                break
            # the pause also notices a client that has left, which `send` does not tell
            if not await self._pause(answer.delay):
                return False
        if answer.cut is not None:
            await self._drop(flush=True)
        return answer.cut is None

    async def _write(self, body: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _pause(self, seconds: float) -> bool:
        """Wait; return whether the client is still there."""
        watcher = self._watch()
        await asyncio.wait([watcher], timeout=seconds)
        return not watcher.done()

    async def _drop(self, *, flush: bool) -> None:
        drop = self._scope.get("state", {}).get(DROP)
        if drop is None:
            raise ConnectionResetError("the emulator dropped the connection")
        drop(flush=flush)
        # returning before the server has noticed would make it answer 500
        await asyncio.wait([self._watch()])

    def _watch(self) -> asyncio.Task[None]:
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._until_gone())
        return self._watcher

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
