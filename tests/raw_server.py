"""Servers that do, byte for byte, what a test tells them, and keep the requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import attrs

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[str]:
    """Serve connections with ``handle`` on a port of its own; give the base URL."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@attrs.define
class RawServer:
    """Sends each request the next of ``answers``, the last one repeatedly, and hangs up.

    ``asked`` has each request as a dict of its header fields, the request line under ``""``.
    """

    answers: Sequence[bytes]
    port: int = 0
    asked: list[dict[str, str]] = attrs.field(factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        self.asked.append({"": first} | {name.lower(): value for name, value in fields.items()})
        writer.write(self.answers[min(len(self.asked), len(self.answers)) - 1])
        await writer.drain()
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def raw_server(*answers: bytes) -> AsyncIterator[RawServer]:
    """Serve on a port of its own."""
    served = RawServer(answers)
    async with listening(served.handle) as url:
        served.port = int(url.rpartition(":")[2])
        yield served


def answer(body: bytes, *fields: str, status: str = "200 OK", length: bool = True) -> bytes:
    """Return an HTTP/1.1 response; without a length the end of the connection ends it."""
    lines = [f"HTTP/1.1 {status}", "connection: close", *fields]
    if length:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
