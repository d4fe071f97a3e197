"""Reading a response body of unknown size: bounded in memory, and no paid byte dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from http import HTTPStatus

import attrs
import httpx

from modelmax_async._api.messages import Reply, decompress, is_encoded
from modelmax_async._errors import TransportError
from modelmax_async._http.exchange import Exchange
from modelmax_async._http.kept_file import KeptFile, find_directory
from modelmax_async._models import ResourceLimits
from modelmax_async._runtime.threads import in_thread
from modelmax_async._settings import Settings, host_of

#: The headers that a reply has, and how many characters of each.
_HEADERS = frozenset({b"content-encoding", b"date", b"location", b"retry-after"})
_LONGEST = 1000
#: Seconds that reading the body of a download's error may take.
_SOON = 5.0
#: Chunks that are read before the event loop runs other tasks.
_CHUNKS = 16
_TOO_LARGE = (
    "is larger than {} bytes, the bound that limits=ResourceLimits(response_bytes=…) sets"
)
_ENCODED = "is compressed, which was not requested"


async def read_whole(
    response: httpx.Response, exchange: Exchange, settings: Settings, *, keep: bool
) -> Reply:
    """Return a response with its whole body.

    Args:
        response: a response whose body was not read, unless a hook of the caller's client did.
        exchange: gets the path of the file that keeps a body too large for memory.
        settings: the bounds of bodies, and the server.
        keep: whether a success is paid for: it is then read whatever it is. No other body is
            read beyond its bound, or if it is compressed.
    """
    limits, host = settings.limits, host_of(settings.base_url)
    reply = Reply(response.status_code, _headers(response), b"", host=host)
    paid = keep and HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES
    most = limits.result_bytes if paid else limits.response_bytes
    too_large = attrs.evolve(reply, unread=_TOO_LARGE.format(most))
    if response.is_stream_consumed:  # and decompressed, by a hook of the caller's client
        whole = attrs.evolve(reply, headers=_unencoded(reply), body=response.content)
        return whole if paid or len(whole.body) <= most else too_large
    if "content-encoding" in reply.headers and not keep:
        return attrs.evolve(reply, unread=_ENCODED)
    parts = paced(response.stream)  # type: ignore[arg-type]  # an async client's
    body, complete = await _collect(parts, most)
    if complete:
        return _unpacked(attrs.evolve(reply, body=bytes(body)), most)
    return await _keep(reply, body, parts, exchange, limits) if paid else too_large


async def paced(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks, and let the event loop run other tasks between many small ones.

    The HTTP library parses what one read returned without a pause, and that may be ten thousand
    chunks of one byte.
    """
    count = 0
    async for chunk in chunks:
        yield chunk
        count += 1
        if count % _CHUNKS == 0:
            await asyncio.sleep(0)


async def beginning(chunks: AsyncIterator[bytes], most: int) -> bytes:
    """Return the beginning of an error's body, as far as it is received soon."""
    body = bytearray()
    with suppress(TransportError, TimeoutError):
        async with asyncio.timeout(_SOON):
            async for chunk in chunks:
                body += chunk[: most - len(body)]
                if len(body) == most:
                    break
    return bytes(body)


async def _collect(parts: AsyncIterable[bytes], most: int) -> tuple[bytearray, bool]:
    """Return the body, or its beginning as soon as that exceeds ``most`` bytes; which it is."""
    body = bytearray()
    async for chunk in parts:
        body += chunk
        if len(body) > most:
            return body, False
    return body, True


async def _keep(
    reply: Reply,
    body: bytearray,
    rest: AsyncIterable[bytes],
    exchange: Exchange,
    limits: ResourceLimits,
) -> Reply:
    """Write a body whose beginning is in memory to a file of its own, off the event loop.

    If the file would hold no more than the memory does, it is removed, and the part in memory
    is the body. ``exchange`` has the path from before the first byte is written, so that
    whatever ends this can name the file.
    """
    in_memory = attrs.evolve(reply, body=bytes(body))
    try:
        file = KeptFile(await in_thread(find_directory))
    except OSError:
        return in_memory  # no room: the ledger keeps what is in memory
    exchange.kept_at = file.path
    file.put(in_memory.body)
    try:
        written = await _fill(file, rest, limits.kept_bytes)
        more = written or await in_thread(file.stored) > len(body)
    except BaseException:
        file.close_soon()
        raise
    if more:
        file.close_soon()
        return attrs.evolve(reply, kept_at=file.path)
    exchange.kept_at = None
    file.drop_soon()
    return in_memory


async def _fill(file: KeptFile, rest: AsyncIterable[bytes], most: int) -> bool:
    """Write what was received and the rest; return whether the disk took it."""
    if not await in_thread(file.write):
        return False
    try:
        async for chunk in rest:
            file.put(chunk)
            if file.due and not await in_thread(file.write):
                return False
            if file.size > most:
                break
    except Exception:
        await in_thread(file.close)  # the error names the file: it is to be complete by then
        raise
    return await in_thread(file.close)


def _headers(response: httpx.Response) -> dict[str, str]:
    """Return the headers that say something to this client, each bounded.

    Those of a list are joined, as HTTP defines it. There may be tens of thousands of others.
    """
    found: dict[str, str] = {}
    for raw, value in response.headers.raw:
        name = raw.lower()
        if name in _HEADERS:
            known = found.get(name.decode())
            text = value.decode("latin-1")
            found[name.decode()] = (text if known is None else f"{known}, {text}")[:_LONGEST]
    if not is_encoded(found.get("content-encoding", "")):
        found.pop("content-encoding", None)
    return found


def _unencoded(reply: Reply) -> dict[str, str]:
    return {name: text for name, text in reply.headers.items() if name != "content-encoding"}


def _unpacked(reply: Reply, most: int) -> Reply:
    """Return a reply with its body decompressed, or as it is if that cannot be done."""
    encoding = reply.headers.get("content-encoding")
    if encoding is None:
        return reply
    with suppress(ValueError):
        body = decompress(reply.body, encoding, most)
        return attrs.evolve(reply, headers=_unencoded(reply), body=body)
    return reply
