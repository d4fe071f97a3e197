"""An aiohttp transport carries the polls; billed calls use our connections and its settings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import httpcore
import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from proxies import ForwardProxy
from raw_server import answer, listening
from support import on_socket

from modelmax_async import ConfigurationError
from modelmax_async._http.aiohttp import opener_like
from modelmax_async._http.lookups import Lookups
from modelmax_async._http.network import Network
from modelmax_async.emulator import Emulator, JobScript

pytestmark = pytest.mark.anyio


async def test_transport_that_two_clients_share_one_after_the_other(
    emulator: Emulator, url: str
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=0.05)) for _ in range(2)]

    async with AiohttpTransport() as transport:
        for request_id in ids:
            async with on_socket(url, http_client=transport) as client:
                await client.wait_for(request_id)
        session = transport.client

    assert isinstance(session, aiohttp.ClientSession)
    assert dict.fromkeys(ids, 1) == emulator.billed


Session = Callable[[ssl.SSLContext], Any]
CUSTOM: dict[str, Session] = {
    "session": lambda _: aiohttp.ClientSession(),
    "callable": lambda _: aiohttp.ClientSession,
    "with its context": lambda ctx: aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ctx), trust_env=True
    ),
    "with headers": lambda ctx: aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ctx), headers={"x-team": "reef"}
    ),
    "with traces": lambda ctx: aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ctx), trace_configs=[aiohttp.TraceConfig()]
    ),
    "over a socket": lambda _: aiohttp.ClientSession(connector=aiohttp.UnixConnector("/x")),
}


@pytest.mark.parametrize("make", CUSTOM.values(), ids=CUSTOM.keys())
@pytest.mark.parametrize("inside", [True, False], ids=["in client", "bare"])
async def test_custom_session_is_refused_at_once(make: Session, inside: bool) -> None:
    context = httpx.create_ssl_context()
    session = make(context)
    transport = AiohttpTransport(verify=context, client=session)

    with pytest.raises(ConfigurationError, match=r"Pass AiohttpTransport\(\) with verify="):
        on_socket(
            "http://127.0.0.1:1",
            http_client=httpx.AsyncClient(transport=transport) if inside else transport,
        )

    await transport.aclose()


async def test_transport_that_was_closed_is_refused_at_once(
    emulator: Emulator, url: str
) -> None:
    transport = AiohttpTransport()
    async with transport, on_socket(url, http_client=transport) as client:
        await client.status(emulator.add_job())

    with pytest.raises(ConfigurationError, match="or a closed one"):
        on_socket(url, http_client=transport)


@pytest.mark.parametrize(
    ("attribute", "value"), [("ssl_context", 5), ("proxy", "ftp://127.0.0.1"), ("uds", ...)]
)
async def test_transport_whose_settings_are_unusable_is_refused(
    attribute: str, value: object
) -> None:
    transport = AiohttpTransport()
    if value is ...:
        delattr(transport, attribute)
    else:
        setattr(transport, attribute, value)

    with pytest.raises(ConfigurationError, match="settings cannot be used"):
        on_socket("http://127.0.0.1:1", http_client=transport)


async def test_certificates_that_the_transport_trusts_are_trusted(
    emulator: Emulator, made_certificate: Sequence[str]
) -> None:
    chain, key = made_certificate
    context = ssl.create_default_context(cafile=chain)

    async with (
        emulator.serve(ssl_certfile=chain, ssl_keyfile=key) as url,
        AiohttpTransport(verify=context) as transport,
        on_socket(url, http_client=transport) as client,
    ):
        result = await client.generate("a reef")

    assert {result.request_id: 1} == emulator.billed


async def test_proxy_of_the_transport_is_used_and_the_environments_is_not(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "not a proxy")
    direct, through = emulator.add_job("direct"), emulator.add_job("through")

    proxy = ForwardProxy()

    async with listening(proxy.handle) as proxy_url:
        without = AiohttpTransport()
        async with without, on_socket(url, http_client=without) as client:
            await client.result(direct)
        within = AiohttpTransport(proxy=httpx.Proxy(proxy_url))
        async with within, on_socket(url, http_client=within) as client:
            await client.result(through)

    assert [f"{url}/v1/queue/veo-3/requests/{through}"] == proxy.asked
    assert {direct: 1, through: 1} == emulator.billed


async def test_socket_of_the_transport_is_used(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(answer(b'{"status": "COMPLETED", "data": [{"url": "/v"}]}'))
        writer.close()

    path = str(tmp_path / "socket")
    server = await asyncio.start_unix_server(handle, path)
    async with (
        AiohttpTransport(uds=path) as transport,
        on_socket("http://127.0.0.1:9", http_client=transport) as client,
    ):
        await client.status("x")
        again = on_socket("http://127.0.0.1:9", http_client=transport)
        result = await client.wait_for("x")
    await again.aclose()
    server.close()

    assert "x" == result.request_id
    assert ["status", "status", "x"] == [path.decode().rsplit("/", 1)[-1] for path in asked]


async def test_address_and_options_of_the_transport_are_used() -> None:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    transport = AiohttpTransport(local_address="127.0.0.2", socket_options=options)
    opened = opener_like(transport, Network(Lookups(1, 9.0)))(
        httpx.Limits(max_keepalive_connections=0)
    )

    assert isinstance(opened, httpx.AsyncHTTPTransport)
    pool = opened._pool

    assert isinstance(pool, httpcore.AsyncConnectionPool)
    assert ("127.0.0.2", options) == (pool._local_address, pool._socket_options)
    assert 0 == pool._max_keepalive_connections
    assert transport.ssl_context is pool._ssl_context


async def test_batch_over_an_aiohttp_transport_is_billed_once_each(emulator: Emulator) -> None:
    request_ids = [emulator.add_job(script=JobScript(run_seconds=0.2)) for _ in range(30)]
    odd = emulator.add_job("a/b+c=%?#")

    async with (
        emulator.serve() as url,
        httpx.AsyncClient(transport=AiohttpTransport()) as http_client,
        on_socket(url, http_client=http_client) as client,
    ):
        results = await client.gather_results([*request_ids, odd])

    assert [*request_ids, odd] == [result.request_id for result in results]
    assert Counter([*request_ids, odd]) == emulator.billed
