"""What the money rules rely on from httpx and httpcore, so that an upgrade that changes it
is noticed here and not on a bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpcore
import httpx
import pytest

from modelmax_async._http import Exchange
from modelmax_async._http.connections import manage_one
from modelmax_async._http.lookups import Lookups
from modelmax_async._http.network import Network

pytestmark = pytest.mark.anyio
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """A TCP server that keeps every byte it was sent."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@asynccontextmanager
async def serving(*answers: bytes | None) -> AsyncIterator[Server]:
    """Answer the requests of each connection in turn, then hang up; ``None`` does at once."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.received.append(b"")
        index = len(server.received) - 1
        for answer in answers:
            data = b""
            while b"\r\n\r\n" not in data:
                chunk = await reader.read(65536)
                if not chunk:
                    break
                data += chunk
                server.received[index] += chunk
            if answer is None or not data:
                break
            writer.write(answer)
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    yield server
    listener.close()
    await listener.wait_closed()


class Events:
    """A trace callback that keeps the names, and raises at one of them if told to."""

    def __init__(self, raise_at: str = "") -> None:
        self.names: list[str] = []
        self.methods: list[Any] = []
        self.raise_at = raise_at

    async def __call__(self, name: str, info: dict[str, Any]) -> None:
        self.names.append(name)
        self.methods.append(getattr(info.get("request"), "method", None))
        if name == self.raise_at:
            raise KeyError("not armed")


def fresh(**options: Any) -> httpx.AsyncHTTPTransport:
    return httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0), **options)


async def send(transport: httpx.AsyncHTTPTransport, url: str, trace: Any) -> bytes:
    times = dict.fromkeys(("connect", "read", "write", "pool"), 0.3)
    request = httpx.Request("GET", url, extensions={"trace": trace, "timeout": times})
    async with transport:
        response = await transport.handle_async_request(request)
        return await response.aread()


STARTED = "http11.send_request_headers.started"


async def test_trace_events_come_in_this_order() -> None:
    events = Events()

    async with serving(OK) as server:
        await send(fresh(), server.url, events)

    assert [
        "connection.connect_tcp.started",
        "connection.connect_tcp.complete",
        STARTED,
        "http11.send_request_headers.complete",
        "http11.send_request_body.started",
        "http11.send_request_body.complete",
        "http11.receive_response_headers.started",
        "http11.receive_response_headers.complete",
        "http11.receive_response_body.started",
        "http11.receive_response_body.complete",
        "http11.response_closed.started",
        "http11.response_closed.complete",
    ] == events.names


async def test_raising_before_byte_zero_leaves_no_byte_on_the_wire() -> None:
    async with serving(OK) as server:
        with pytest.raises(KeyError, match="not armed"):
            await send(fresh(), server.url, Events(raise_at=STARTED))
        await asyncio.sleep(0.05)

    assert [b""] == server.received


async def test_waiting_before_byte_zero_holds_the_request_back() -> None:
    released = asyncio.Event()

    async def wait(name: str, _: dict[str, Any]) -> None:
        if name == STARTED:
            await released.wait()

    async with serving(OK) as server:
        sending = asyncio.create_task(send(fresh(), server.url, wait))
        await asyncio.sleep(0.05)
        before = list(server.received)
        released.set()
        body = await sending

    assert [b""] == before
    assert b"{}" == body


async def test_tunnel_of_a_proxy_has_events_of_its_own() -> None:
    """The CONNECT looks like a request: only its method tells that nothing of ours left."""
    events = Events()

    async with serving(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        with pytest.raises(httpx.ConnectError):
            await send(fresh(proxy=server.url), "https://api.example/", events)

    (first,) = [m for n, m in zip(events.names, events.methods, strict=True) if n == STARTED]
    assert b"CONNECT" == first


async def test_exchange_takes_no_tunnel_for_its_request() -> None:
    armed: list[str] = []

    async def arm() -> None:
        armed.append("armed")

    exchange = Exchange(once=True, before_send=arm)

    async with serving(b"HTTP/1.1 200 OK\r\n\r\n") as server:
        with pytest.raises(httpx.ConnectError) as caught:
            await send(fresh(proxy=server.url), "https://api.example/", exchange.trace)

    assert [] == armed
    assert not exchange.maybe_sent(caught.value)


@pytest.mark.parametrize(
    ("answers", "kind", "sent", "answered"),
    [
        ((None,), httpx.RemoteProtocolError, True, False),
        ((b"nonsense\r\n\r\n",), httpx.RemoteProtocolError, True, False),
        ((CUT,), httpx.RemoteProtocolError, True, True),
        (
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",),
            httpx.RemoteProtocolError,
            True,
            True,
        ),
        ((CUT, b""), httpx.ReadTimeout, True, True),
        ((b"", b""), httpx.ReadTimeout, True, False),
    ],
    ids=["hangs up", "nonsense", "cut off", "cut chunk", "stalls in the body", "silent"],
)
async def test_what_was_sent_when_each_failure_appears(
    answers: tuple[bytes | None, ...], kind: type[Exception], sent: bool, answered: bool
) -> None:
    exchange = Exchange(once=True)

    async with serving(*answers) as server:
        with pytest.raises(kind) as caught:
            await send(fresh(), server.url, exchange.trace)

    assert sent == exchange.maybe_sent(caught.value)
    assert answered == exchange.answered


async def test_refused_connection_and_failed_handshake_are_connect_errors() -> None:
    exchange = Exchange(once=True)
    with pytest.raises(httpx.ConnectError) as caught:
        await send(fresh(), "http://127.0.0.1:9/", exchange.trace)
    assert not exchange.maybe_sent(caught.value)

    async with serving(b"this is no TLS at all\r\n\r\n") as server:
        with pytest.raises((httpx.ConnectError, httpx.ConnectTimeout)) as caught_tls:
            await send(fresh(), server.url.replace("http:", "https:"), exchange.trace)

    assert not exchange.maybe_sent(caught_tls.value)
    assert all(b"GET" not in data for data in server.received)


async def test_stale_connection_is_not_reused_once_the_server_has_closed_it() -> None:
    """Why polls may keep connections. A close that has not arrived yet is still a race, which
    is why what must be sent once does not.
    """
    async with serving(OK) as server:
        transport = httpx.AsyncHTTPTransport()
        async with transport:
            for _ in range(2):
                request = httpx.Request("GET", server.url)
                response = await transport.handle_async_request(request)
                await response.aread()
                await asyncio.sleep(0.05)

    assert 2 == len(server.received)


async def test_connection_of_a_billed_call_is_kept_by_nobody() -> None:
    async with serving(OK, OK) as server:
        transport = fresh()
        async with transport:
            for _ in range(2):
                request = httpx.Request("GET", server.url)
                await (await transport.handle_async_request(request)).aread()

    assert 2 == len(server.received)


async def test_body_without_a_length_ends_where_the_connection_does() -> None:
    """So that a cut cannot be told from an end: the body is kept as paid for."""
    async with serving(b"HTTP/1.1 200 OK\r\n\r\n{half") as server:
        body = await send(fresh(), server.url, Events())

    assert b"{half" == body


async def test_raw_stream_is_not_decompressed() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"

    async with serving(answer) as server:
        transport = fresh()
        async with transport:
            response = await transport.handle_async_request(httpx.Request("GET", server.url))
            assert isinstance(response.stream, httpx.AsyncByteStream)
            raw = b"".join([chunk async for chunk in response.stream])

    assert b"nope" == raw


async def test_percent_escapes_in_a_path_go_out_as_they_are() -> None:
    path = "v1/queue/veo-3/requests/a%2Fb%3F%23%2525%C3%A9==/status"

    async with serving(OK) as server:
        await send(fresh(), server.url + path, Events())

    assert server.received[0].startswith(f"GET /{path} HTTP/1.1\r\n".encode())


async def test_a_second_send_in_one_exchange_is_stopped_before_its_first_byte() -> None:
    exchange = Exchange(once=True)

    async with serving(OK) as server:
        await send(fresh(), server.url, exchange.trace)
        with pytest.raises(RuntimeError, match="twice"):
            await send(fresh(), server.url, exchange.trace)
        await asyncio.sleep(0.05)

    assert b"" == server.received[1]


async def test_pool_of_a_transport_is_what_the_kept_connections_replace() -> None:
    """`manage_one` puts a single connection in the place of this attribute."""
    transport = httpx.AsyncHTTPTransport()
    pool = transport._pool

    assert isinstance(pool, httpcore.AsyncConnectionPool)
    connection = pool.create_connection(httpcore.URL("http://127.0.0.1/").origin)
    assert isinstance(connection, httpcore.AsyncConnectionInterface)
    own = {"aclose", "can_handle_request", "has_expired", "is_available"}
    assert own <= set(dir(httpcore.AsyncConnectionInterface))
    await transport.aclose()


async def test_connection_tells_of_bytes_behind_a_response() -> None:
    """A kept connection that has any is not used again: the next call would get them."""
    async with serving(OK + b"HTTP/1.1") as server:
        transport = manage_one(httpx.AsyncHTTPTransport())
        request = httpx.Request("GET", server.url)
        await (await transport.handle_async_request(request)).aread()
        single: Any = transport._pool
        found = single._connection._connection._h11_state.trailing_data

    assert b"HTTP/1.1" == found[0]
    await transport.aclose()


async def test_network_backend_of_a_pool_connects_with_these_arguments() -> None:
    """`Network.carry` puts a backend of the SDK's in the place of this attribute."""

    class Backend:
        def __init__(self, inner: Any) -> None:
            self.inner = inner
            self.asked: list[dict[str, Any]] = []

        async def connect_tcp(self, **options: Any) -> Any:
            self.asked.append(dict(options))
            return await self.inner.connect_tcp(**options | {"host": "127.0.0.1"})

    async with serving(OK) as server:
        transport = fresh()
        pool: Any = transport._pool
        pool._network_backend = backend = Backend(pool._network_backend)
        await send(transport, f"http://h.example:{server.port}/", Events())

    assert [
        {
            "host": "h.example",
            "port": server.port,
            "local_address": None,
            "timeout": 0.3,
            "socket_options": None,
        }
    ] == backend.asked
    for proxied in (
        httpx.AsyncHTTPTransport(proxy="http://h:1"),
        httpx.AsyncHTTPTransport(proxy="https://h:1"),
    ):
        assert hasattr(proxied._pool, "_network_backend")


async def test_trace_events_are_the_same_through_the_sdks_network() -> None:
    plain, carried = Events(), Events()

    async with serving(OK) as server:
        await send(fresh(), server.url, plain)
        transport = Network(Lookups(1, 5.0)).carry(fresh())
        await send(transport, server.url.replace("127.0.0.1", "localhost"), carried)

    assert plain.names == carried.names


async def test_client_looks_its_transport_up_for_each_request() -> None:
    """Libraries that mock HTTP patch this method, and so the SDK's client calls it too."""
    transport = httpx.MockTransport(lambda _: httpx.Response(204))
    client = httpx.AsyncClient(transport=transport)

    assert transport is client._transport_for_url(httpx.URL("http://127.0.0.1"))
    await client.aclose()


async def test_connections_are_made_by_the_network_backend_of_a_pool() -> None:
    """The heads of responses are bounded there, before the library parses them."""
    used: list[str] = []

    class Backend:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        async def connect_tcp(self, host: str, port: int, **options: Any) -> Any:
            used.append(host)
            return await self.inner.connect_tcp(host, port, **options)

    async with serving(OK) as server, fresh() as transport:
        pool: Any = transport._pool
        pool._network_backend = Backend(pool._network_backend)
        response = await transport.handle_async_request(httpx.Request("GET", server.url))
        await response.aread()

    assert ["127.0.0.1"] == used
    assert response.extensions["network_stream"] is not None
