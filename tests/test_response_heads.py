"""The heads of responses are bounded before they are parsed, and cost no paid body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import httpcore
import httpx
import pytest
from raw_server import answer, listening, raw_server
from support import on_socket, transport_to

from modelmax_async import ResultUncertainError, TransportError
from modelmax_async._api.messages import Call, Reply
from modelmax_async._http.heads import (
    MOST_BYTES,
    MOST_INFORMATIONAL,
    MOST_LINES,
    bound_heads,
)

pytestmark = pytest.mark.anyio
CALL = Call("GET", "/v1/queue/veo-3/requests/x/status")
PAID = b'{"status": "COMPLETED", "data": [{"url": "/v"}]}'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@attrs.define
class Wire(httpcore.AsyncNetworkBackend, httpcore.AsyncNetworkStream):
    """A network that answers every request with these chunks, then with the end."""

    chunks: Sequence[bytes]
    secure: bool = False
    closed: bool = False
    written: list[bytes] = attrs.field(factory=list)

    async def connect_tcp(self, *arguments: Any, **options: Any) -> Wire:
        return self

    async def connect_unix_socket(self, *arguments: Any, **options: Any) -> Wire:
        return self

    async def sleep(self, seconds: float) -> None:
        self.written.append(b"slept")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        chunk, *self.chunks = self.chunks or [b""]
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.written.append(buffer)

    async def start_tls(self, *arguments: Any, **options: Any) -> Wire:
        self.secure = True
        return self

    async def aclose(self) -> None:
        self.closed = True


@asynccontextmanager
async def transport_over(
    *chunks: bytes, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncHTTPTransport, Wire]]:
    wire = Wire(chunks)
    made = httpx.AsyncHTTPTransport(**options)
    made._pool._network_backend = wire
    async with bound_heads(made) as transport:
        yield transport, wire


async def get(url: str, *chunks: bytes, **options: Any) -> httpx.Response:
    """Return the response that a server sends in these chunks."""
    async with transport_over(*chunks, **options) as (transport, _):
        response = await transport.handle_async_request(httpx.Request("GET", url))
        await response.aread()
    return response


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
async def test_head_is_read_whole_in_any_chunks(size: int) -> None:
    sent = CONTINUE * 2 + answer(b"{}", "x-one: 1")
    chunks = [sent[at : at + size] for at in range(0, len(sent), size)]
    response = await get("http://example", *chunks)

    assert (200, b"{}", "1") == (
        response.status_code,
        response.content,
        response.headers["x-one"],
    )


async def test_bare_line_feeds_end_a_head() -> None:
    response = await get("http://example", b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}")

    assert b"{}" == response.content


@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_connection_that_ends_in_a_head_is_an_error(cut: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        await get("http://example", cut)


async def test_most_informational_responses_are_skipped() -> None:
    sent = CONTINUE * MOST_INFORMATIONAL + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    response = await get("http://example", sent)

    assert b"{}" == response.content


async def test_more_informational_responses_are_an_error() -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="more than 100 informational"):
        await get("http://example", CONTINUE * (MOST_INFORMATIONAL + 1) + answer(b"{}"))


async def test_switch_of_protocols_is_left_to_the_library() -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="SWITCH"):
        await get("http://example", b"HTTP/1.1 101 Switching Protocols\r\n\r\n")


async def test_length_is_kept_behind_many_lines_of_another_needed_header() -> None:
    fields = [f"x-{number}: v" for number in range(MOST_LINES)]
    kinds = [f"content-type: a/{number}" for number in range(9)]
    head = "\r\n".join(["HTTP/1.1 200 OK", *fields, *kinds, "Content-Length: 2", "", ""])
    response = await get("http://example", head.encode() + b"{} and more")

    assert b"{}" == response.content
    assert "a/0" == response.headers["content-type"]


async def test_lengths_that_differ_behind_many_lines_are_an_error() -> None:
    fields = [f"x-{number}: v" for number in range(MOST_LINES)]
    lengths = ["content-length: 2", "content-length: 2", "content-length: 3"]
    head = "\r\n".join(["HTTP/1.1 200 OK", *fields, *lengths, "", ""])

    with pytest.raises(httpx.RemoteProtocolError, match="Content-Length"):
        await get("http://example", head.encode() + b"{}}")


async def test_longest_usual_head_is_unchanged() -> None:
    fields = [f"x-{number}: v" for number in range(MOST_LINES - 5)]
    response = await get("http://example", answer(b"{}", *fields))

    assert MOST_LINES - 3 == len(response.headers.raw)
    assert b"{}" == response.content


async def test_head_of_too_many_lines_keeps_what_the_body_needs() -> None:
    fields = [*("a:b" for _ in range(40_000)), "Content-Type: video/mp4"]
    response = await get("http://example", answer(b"{}", *fields))

    assert len(response.headers.raw) < MOST_LINES + 5
    assert ("2", "video/mp4", "close, close") == tuple(
        response.headers[name] for name in ("content-length", "content-type", "connection")
    )
    assert b"{}" == response.content


async def test_head_beyond_the_bound_is_refused() -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="too long"):
        await get("http://example", b"HTTP/1.1 200 OK\r\n", b"x" * MOST_BYTES)


async def test_tunnel_and_tls_are_read_by_the_same_rules() -> None:
    established = b"HTTP/1.1 200 Connection established\r\n\r\n"
    proxied = {"proxy": "http://proxy.example:1"}
    async with transport_over(CONTINUE + established, CONTINUE, answer(b"{}"), **proxied) as (
        transport,
        wire,
    ):
        request = httpx.Request("GET", "https://example")
        response = await transport.handle_async_request(request)
        await response.aread()

    assert b"{}" == response.content
    assert (True, True) == (wire.secure, wire.closed)


async def test_greeting_of_a_socks_proxy_is_answered_without_a_head() -> None:
    async with transport_over(b"\x05\x00") as (transport, wire):
        backend = transport._pool._network_backend
        stream = await backend.connect_tcp("proxy.example", 1)
        await stream.write(b"\x05\x01\x00")
        received = await stream.read(4096)

    assert b"\x05\x00" == received
    assert [b"\x05\x01\x00"] == wire.written


async def test_unix_socket_is_read_by_the_same_rules() -> None:
    response = await get("http://example", CONTINUE, answer(b"{}"), uds="/run/socket")

    assert b"{}" == response.content


async def test_backend_can_wait_between_tries() -> None:
    async with transport_over() as (transport, wire):
        await transport._pool._network_backend.sleep(0)

    assert [b"slept"] == wire.written


async def test_paid_body_behind_too_many_headers_is_not_lost() -> None:
    fields = ["a:b"] * 30_000

    async with (
        raw_server(answer(PAID, *fields)) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        result = await client.result("x")

    assert ("x", "/v") == (result.request_id, result.videos[0].url)
    assert 1 == len(server.asked)


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send informational responses as long as they are read."""
    await reader.readuntil(b"\r\n\r\n")
    try:
        while True:
            writer.write(CONTINUE * 1000)
            await writer.drain()
    except OSError:
        writer.close()


async def test_endless_informational_responses_end_a_free_call() -> None:
    def same(reply: Reply) -> Reply:
        return reply

    async with listening(flood) as url:
        transport = transport_to(url, timeout=60.0)
        with pytest.raises(TransportError, match="more than 100 informational responses"):
            await transport.poll(transport.prepare(CALL), same)
        await transport.aclose()


async def test_endless_informational_responses_leave_a_billed_call_uncertain() -> None:
    async with listening(flood) as url, on_socket(url) as client:
        with pytest.raises(ResultUncertainError, match="more than 100 informational") as caught:
            await client.result("x")
        (entry,) = await client.unresolved()

    assert ("sent", "uncertain") == (caught.value.phase, entry.state)
