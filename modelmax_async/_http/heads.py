"""The heads of responses, bounded before the HTTP library parses them.

The library parses what one read returned without a pause. That may be four thousand
informational responses (``100 Continue``), or one head of as many lines.
"""

from __future__ import annotations

import re
from typing import Any

import attrs
import httpx

#: The most informational responses before the one that counts.
MOST_INFORMATIONAL = 100
#: The most bytes of one head. The library refuses one that is not complete by then.
MOST_BYTES = 256 * 1024
#: The most lines of a head. Of the further ones, only those that the body cannot be read
#: without are kept: no paid response is lost because of its headers.
MOST_LINES = 256
#: They say where the body ends. If they contradict each other, the library must see it.
_FRAMING = (b"content-length", b"transfer-encoding")
_NEEDED = frozenset({*_FRAMING, b"content-encoding", b"content-range", b"content-type"})
#: How requests begin. A SOCKS proxy's greeting begins differently, and is answered differently.
_REQUESTS = (b"GET ", b"POST ", b"CONNECT ")
_END = re.compile(rb"\n\r?\n")
_INFORMATIONAL = re.compile(rb"HTTP/1\.[01] 1(?!01)")


def bound_heads(transport: httpx.AsyncHTTPTransport) -> httpx.AsyncHTTPTransport:
    """Let a transport, which has no connection yet, bound the heads of its responses."""
    pool: Any = transport._pool  # noqa: SLF001 - a contract test pins it
    pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001 - as above
    return transport


@attrs.frozen
class _Backend:
    """A network backend of httpcore's, whose streams bound the heads that they receive."""

    _inner: Any

    async def connect_tcp(self, *arguments: Any, **options: Any) -> _Stream:
        return _Stream(await self._inner.connect_tcp(*arguments, **options))

    async def connect_unix_socket(self, *arguments: Any, **options: Any) -> _Stream:
        return _Stream(await self._inner.connect_unix_socket(*arguments, **options))

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


@attrs.define(eq=False)
class _Stream:
    """A stream of httpcore's. After a request it returns the head of the response whole."""

    _inner: Any
    _in_head: bool = attrs.field(default=False, init=False)

    async def read(self, max_bytes: int, timeout: float | None = None) -> Any:
        if not self._in_head:
            return await self._inner.read(max_bytes, timeout)
        received = await self._read_head(max_bytes, timeout)
        self._in_head = False
        return received

    async def _read_head(self, max_bytes: int, timeout: float | None) -> bytes:
        """Return a head, and what was received with it; all of it if it is incomplete."""
        received = bytearray()
        searched = informational = 0
        while True:
            end = _END.search(received, searched)
            if end is None:
                searched = max(0, len(received) - 2)
                chunk = (
                    b"" if searched > MOST_BYTES else await self._inner.read(max_bytes, timeout)
                )
                if not chunk:
                    return bytes(received)
                received += chunk
            elif _INFORMATIONAL.match(received) is None:
                return _shortened(bytes(received[: end.end()])) + received[end.end() :]
            else:
                del received[: end.end()]
                searched, informational = 0, informational + 1
                if informational > MOST_INFORMATIONAL:
                    raise httpx.RemoteProtocolError(
                        f"more than {MOST_INFORMATIONAL} informational responses"
                    )

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._in_head = self._in_head or buffer.startswith(_REQUESTS)
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *arguments: Any, **options: Any) -> _Stream:
        return _Stream(await self._inner.start_tls(*arguments, **options))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _shortened(head: bytes) -> bytes:
    """Return a head of `MOST_LINES` lines at most, and those that the body needs."""
    lines = head.split(b"\n")
    if len(lines) <= MOST_LINES:
        return head
    needed: dict[bytes, bytes] = {}  # each framing line once, and the first of each other name
    for line in lines[MOST_LINES:]:
        name = line.partition(b":")[0].lower()
        if name in _NEEDED:
            needed.setdefault(line.strip().lower() if name in _FRAMING else name, line)
    return b"\n".join(
        [*lines[:MOST_LINES], *needed.values(), b"connection: close\r", b"\r", b""]
    )
