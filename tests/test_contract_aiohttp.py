"""What the money rules rely on from aiohttp and httpx-aiohttp, and from httpx's own parts that
say which transport a client uses: an upgrade that changes it is noticed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator

import aiohttp
import httpx
import httpx_aiohttp
import pytest
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

from modelmax_async._http.transports import _SENDING

pytestmark = pytest.mark.anyio
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Server:
    """Answers the first request of each connection, and hangs up at the next."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # who asks may leave
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            if self.asked == 1:
                writer.write(OK)
                await reader.readuntil(b"\r\n\r\n")
                self.asked += 1
        writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on a port of its own."""
    found = Server()
    listening = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    yield found
    listening.close()


async def get(transport: httpx.AsyncBaseTransport, url: str, method: str = "GET") -> bytes:
    response = await transport.handle_async_request(httpx.Request(method, url))
    return await response.aread()


async def test_get_on_a_kept_connection_is_sent_again_by_aiohttp_itself(server: Server) -> None:
    """So that it must never carry a call that is billed."""
    async with AiohttpTransport() as transport:
        await get(transport, server.url)
        with pytest.raises(httpx.TransportError):
            await get(transport, server.url)

    assert 3 == server.asked


async def test_break_after_the_request_is_called_a_connect_timeout(server: Server) -> None:
    server.asked = 1

    async with AiohttpTransport() as transport:
        with pytest.raises(httpx.ConnectTimeout) as caught:
            await get(transport, server.url, "POST")

    assert isinstance(caught.value.__cause__, aiohttp.ServerDisconnectedError)
    assert 2 == server.asked


async def test_no_trace_event_is_emitted(server: Server) -> None:
    names: list[str] = []

    async def trace(name: str, _: object) -> None:
        names.append(name)

    async with AiohttpTransport() as transport:
        request = httpx.Request("GET", server.url, extensions={"trace": trace})
        await (await transport.handle_async_request(request)).aread()

    assert [] == names


async def test_session_is_made_at_first_use_and_has_nothing_but_its_connector(
    server: Server,
) -> None:
    async with AiohttpTransport() as transport:
        before = transport.client
        await get(transport, server.url)
        session = transport.client

        assert before is None
        assert isinstance(session, aiohttp.ClientSession)
        assert isinstance(session.connector, aiohttp.TCPConnector)
        assert session.connector._ssl is transport.ssl_context
        assert (False, []) == (session.trust_env, session.trace_configs)
        assert not session.headers

    assert session.connector is None


async def test_session_over_a_unix_socket_has_its_path() -> None:
    transport = AiohttpTransport(uds="/nowhere/at/all")
    with pytest.raises(httpx.TransportError):
        await get(transport, "http://127.0.0.1/")

    assert isinstance(transport.client, aiohttp.ClientSession)
    assert isinstance(transport.client.connector, aiohttp.UnixConnector)
    assert "/nowhere/at/all" == transport.client.connector.path
    await transport.aclose()


async def test_settings_of_a_transport_are_its_attributes() -> None:
    context = httpx.create_ssl_context()
    proxy = httpx.Proxy("http://127.0.0.1:9")
    made = AiohttpTransport(verify=context, proxy=proxy, local_address="127.0.0.1")

    assert (context, proxy) == (made.ssl_context, made.proxy)
    assert (None, "127.0.0.1", []) == (made.uds, made.local_address, made.socket_options)
    assert "httpx_aiohttp" in AiohttpTransport.__module__
    assert AiohttpTransport is httpx_aiohttp.AiohttpTransport


async def test_transport_that_a_client_uses_for_a_url_can_be_looked_up() -> None:
    first, second = httpx.MockTransport(_never), httpx.MockTransport(_never)
    client = httpx.AsyncClient(transport=first, mounts={"http://b": second, "all://c": None})

    assert first is client._transport_for_url(httpx.URL("http://a/x"))
    assert second is client._transport_for_url(httpx.URL("http://b/x"))
    assert first is client._transport_for_url(httpx.URL("http://c/x"))
    assert first is client._transport


async def _never(request: httpx.Request) -> httpx.Response:
    raise AssertionError(request.url)


def test_a_client_sends_by_these_methods() -> None:
    methods = {name: getattr(httpx.AsyncClient, name) for name in _SENDING}

    assert [True] * 4 == [inspect.iscoroutinefunction(method) for method in methods.values()]
    for caller, called in zip(_SENDING, (*_SENDING[1:], "_transport_for_url"), strict=True):
        assert f"self.{called}(" in inspect.getsource(methods[caller])


def test_a_client_of_httpx_aiohttp_changes_its_transports_only() -> None:
    own = {name for name in vars(HttpxAiohttpClient) if not name.startswith("__")}

    assert {"_init_transport", "_init_proxy_transport"} == own
