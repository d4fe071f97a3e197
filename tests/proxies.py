"""HTTP proxies on real sockets, which keep the requests they received."""

from __future__ import annotations

import asyncio

import attrs
import httpx

#: A host of a public name: the proxies, and no resolver, know that it is this machine.
NAME = "films.example"
REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


@attrs.define
class ForwardProxy:
    """A proxy for plain HTTP, which serves one request per connection.

    ``asked`` has the URL of each request.
    """

    asked: list[str] = attrs.field(factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, rest = head.split(b" ", 2)
        self.asked.append(target.decode())
        url = httpx.URL(target.decode())
        far_reader, far_writer = await asyncio.open_connection(_address(url.host), url.port)
        far_writer.write(method + b" " + url.raw_path + b" " + rest)
        writer.write(await far_reader.readuntil(b"\r\n\r\n"))
        writer.write(await far_reader.read(65536))
        await writer.drain()
        writer.close()
        far_writer.close()


@attrs.define
class TunnelProxy:
    """A proxy for TLS: it sends each CONNECT the next of ``answers``, then opens a tunnel.

    ``asked`` has the head of each request, ``seen`` all bytes that went through the tunnels.
    """

    answers: list[bytes] = attrs.field(factory=list)
    asked: list[bytes] = attrs.field(factory=list)
    seen: bytearray = attrs.field(factory=bytearray)
    url: str = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        if self.answers:
            writer.write(self.answers.pop(0))
        else:
            host, _, port = head.split()[1].decode().rpartition(":")
            far_reader, far_writer = await asyncio.open_connection(_address(host), int(port))
            writer.write(TUNNEL)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, far_writer))
                both.create_task(self._pass(far_reader, writer))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await _read(reader):
            self.seen += chunk
            writer.write(chunk)
        writer.close()


def _address(host: str) -> str:
    return "127.0.0.1" if host == NAME else host


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""
