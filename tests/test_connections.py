"""The connections of a client: who gets one, and which are used again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import httpcore
import httpx
import pytest

from modelmax_async._http.connections import FRESH, KEPT, NONE_KEPT, Connections, manage_one
from modelmax_async._http.lookups import Lookups
from modelmax_async._http.network import Network
from modelmax_async._http.proxies import open_transport
from modelmax_async.emulator import Emulator, Fault

pytestmark = pytest.mark.anyio


class Double(httpx.AsyncBaseTransport):
    """A transport that answers with a body, or breaks, and counts what it is asked."""

    def __init__(self, body: httpx.AsyncByteStream | Exception) -> None:
        self.body = body
        self.sent = 0
        self.closed = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent += 1
        if isinstance(self.body, Exception):
            raise self.body
        return httpx.Response(200, stream=self.body)

    async def aclose(self) -> None:
        self.closed += 1
        raise OSError("already gone")


class Body(httpx.AsyncByteStream):
    """A body of two chunks, whose closing may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def aclose(self) -> None:
        if self.fails:
            raise OSError("already gone")


class Opened:
    """The transports that were opened, and their limits."""

    def __init__(self, *bodies: httpx.AsyncByteStream | Exception) -> None:
        self.doubles = [Double(body) for body in bodies]
        self.limits: list[httpx.Limits] = []

    def __call__(self, limits: httpx.Limits) -> httpx.AsyncBaseTransport:
        self.limits.append(limits)
        return self.doubles[len(self.limits) - 1]


def request(*, fresh: bool = False) -> httpx.Request:
    return httpx.Request("GET", "http://127.0.0.1/", extensions=FRESH if fresh else {})


async def read(connections: Connections, *, fresh: bool = False) -> bytes:
    response = await connections.handle_async_request(request(fresh=fresh))
    return await response.aread()


async def test_connection_whose_body_was_read_serves_the_next_request() -> None:
    opened = Opened(Body(), Body())
    connections = Connections(opened)

    bodies = [await read(connections) for _ in range(3)]

    assert [b"onetwo"] * 3 == bodies
    assert [KEPT] == opened.limits
    assert "<Connections: 0 busy, 1 idle>" == repr(connections)


async def test_requests_at_once_have_a_connection_each() -> None:
    opened = Opened(Body(), Body())
    connections = Connections(opened)

    responses = [await connections.handle_async_request(request()) for _ in range(2)]
    busy = repr(connections)
    for response in responses:
        await response.aread()

    assert "<Connections: 2 busy, 0 idle>" == busy
    assert [1, 1] == [double.sent for double in opened.doubles]


async def test_body_left_unread_costs_its_connection() -> None:
    opened = Opened(Body(), Body())
    connections = Connections(opened)

    response = await connections.handle_async_request(request())
    await response.aclose()

    assert 1 == opened.doubles[0].closed
    assert "<Connections: 0 busy, 0 idle>" == repr(connections)


async def test_request_that_breaks_costs_its_connection_and_keeps_its_error() -> None:
    connections = Connections(opened := Opened(httpx.ReadError("broken"), Body()))

    with pytest.raises(httpx.ReadError, match="broken"):
        await read(connections)
    body = await read(connections)

    assert b"onetwo" == body
    assert [1, 0] == [double.closed for double in opened.doubles]


async def test_body_that_does_not_close_costs_its_connection() -> None:
    connections = Connections(opened := Opened(Body(fails=True)))

    response = await connections.handle_async_request(request())
    with pytest.raises(OSError, match="already gone"):
        await response.aread()

    assert 1 == opened.doubles[0].closed
    assert "<Connections: 0 busy, 0 idle>" == repr(connections)


async def test_body_closed_twice_gives_its_connection_back_once() -> None:
    connections = Connections(opened := Opened(Body()))

    response = await connections.handle_async_request(request())
    await response.aread()
    assert isinstance(response.stream, httpx.AsyncByteStream)
    await response.stream.aclose()

    assert 0 == opened.doubles[0].closed
    assert "<Connections: 0 busy, 1 idle>" == repr(connections)


async def test_fresh_request_uses_no_kept_connection() -> None:
    connections = Connections(opened := Opened(Body(), Body()))

    await read(connections)
    await read(connections, fresh=True)
    await read(connections, fresh=True)

    assert [KEPT, NONE_KEPT] == opened.limits
    assert [1, 2] == [double.sent for double in opened.doubles]


async def test_close_ends_every_connection() -> None:
    closed: list[str] = []

    class Quiet(httpx.MockTransport):
        async def aclose(self) -> None:
            closed.append("closed")

    connections = Connections(lambda _: Quiet(lambda _: httpx.Response(200, stream=Body())))
    await read(connections)
    busy = [await connections.handle_async_request(request()) for _ in range(2)]
    await read(connections, fresh=True)

    await connections.aclose()

    assert ["closed"] * 3 == closed
    assert 2 == len(busy)


def single() -> tuple[httpx.AsyncHTTPTransport, Any]:
    transport = open_transport(KEPT, None, tls=None, network=Network(Lookups(1, 9.0)))
    return transport, transport._pool


async def ask(transport: httpx.AsyncHTTPTransport, url: str) -> int:
    headers = {"authorization": "Bearer sk-emulator"}
    asked = httpx.Request("GET", url, headers=headers)
    response = await transport.handle_async_request(asked)
    await response.aread()
    return response.status_code


async def test_single_connection_is_kept_for_the_next_request(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("reef")
    transport, managed = single()
    async with aclosing(transport):
        first = await ask(transport, f"{url}/v1/queue/veo-3/requests/reef/status")
        connection = managed._connection
        second = await ask(transport, f"{url}/v1/queue/veo-3/requests/reef/status")

        assert connection is managed._connection
    assert [200, 200] == [first, second]
    assert managed._connection is None


async def test_single_connection_is_made_anew_after_a_drop(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("reef")
    emulator.fault("status", Fault.drop_before())
    path = f"{url}/v1/queue/veo-3/requests/reef/status"
    transport, _ = single()
    async with aclosing(transport):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(transport, path)
        status = await ask(transport, path)

    assert 200 == status


async def test_single_connection_to_another_origin_is_made_anew() -> None:
    first, second = Emulator(), Emulator()
    transport, managed = single()
    async with first.serve() as one, second.serve() as other, aclosing(transport):
        for base in (one, other):
            await ask(transport, f"{base}/v1/queue/veo-3/requests/reef/status")

        assert managed._connection.can_handle_request(httpcore.URL(other).origin)
    assert [1, 1] == [len(each.requests) for each in (first, second)]


async def test_cancelled_request_leaves_no_half_read_connection(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("reef")
    emulator.fault("status", Fault.hang(15))
    path = f"{url}/v1/queue/veo-3/requests/reef/status"
    transport, _ = single()
    async with aclosing(transport):
        asking = asyncio.create_task(ask(transport, path))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        status = await ask(transport, path)

    assert 200 == status


def test_transport_keeps_its_proxy_and_its_certificates() -> None:
    plain = httpx.AsyncHTTPTransport(proxy="http://127.0.0.1:9")
    pool = plain._pool

    managed: Any = manage_one(plain)._pool

    assert pool is managed._pool
