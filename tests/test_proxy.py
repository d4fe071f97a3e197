"""Billed calls through a proxy, for plain HTTP and through a tunnel for TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
from proxies import NAME, REFUSAL, TUNNEL, ForwardProxy, TunnelProxy
from raw_server import listening
from support import IMPATIENT, KEY, on_socket

from modelmax_async import AsyncQueueClient, Result, ResultUncertainError, TransportError
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TunnelProxy]:
    """A proxy that the environment names for https."""
    found = TunnelProxy()
    async with listening(found.handle) as found.url:
        monkeypatch.setenv("https_proxy", found.url)
        yield found


@pytest.fixture
async def secure(emulator: Emulator, certificate: Sequence[str]) -> AsyncIterator[str]:
    """The emulator's base URL, over TLS."""
    chain, key = certificate
    async with emulator.serve(ssl_certfile=chain, ssl_keyfile=key) as url:
        yield url.replace("127.0.0.1", NAME)


@asynccontextmanager
async def _through(
    kind: str, url: str, proxy: TunnelProxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncQueueClient]:
    """A client behind the proxy of the environment, or behind that of its `http_client`."""
    if kind == "environment":
        async with on_socket(url) as client:
            yield client
        return
    monkeypatch.delenv("https_proxy")
    async with (
        httpx.AsyncClient(proxy=proxy.url) as inner,
        on_socket(url, http_client=inner) as client,
    ):
        yield client


KINDS = pytest.mark.parametrize("kind", ["environment", "injected"])


@KINDS
async def test_jobs_are_billed_once_and_the_proxy_sees_no_key(
    emulator: Emulator,
    secure: str,
    proxy: TunnelProxy,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=0.05)) for _ in range(5)]

    async with _through(kind, secure, proxy, monkeypatch) as client:
        results = await client.gather_results(ids)

    assert ids == [result.request_id for result in results]
    assert dict.fromkeys(ids, 1) == emulator.billed
    assert all(head.startswith(b"CONNECT films.example:") for head in proxy.asked)
    assert KEY.encode() not in b"".join(proxy.asked) + bytes(proxy.seen)
    assert len(proxy.seen) > 5000


async def test_tunnel_refused_for_the_billed_call_sends_nothing_and_is_retried(
    emulator: Emulator, secure: str, proxy: TunnelProxy
) -> None:
    request_id = emulator.add_job()

    async with on_socket(secure) as client:
        await client.status(request_id)  # its tunnel stays open for later polls
        proxy.answers = [REFUSAL, TUNNEL, b""]
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls
    assert [] == proxy.answers
    assert 5 == len(proxy.asked)  # one for the polls, three that failed, one that was paid


async def test_job_behind_a_refused_tunnel_can_be_fetched_later(
    emulator: Emulator, secure: str, proxy: TunnelProxy
) -> None:
    request_id = emulator.add_job()
    proxy.answers = [REFUSAL] * 20

    async with on_socket(secure, retry=attrs.evolve(IMPATIENT, attempts=2)) as client:
        with pytest.raises(TransportError, match=r"was not sent.*407") as caught:
            await client.result(request_id)
        proxy.answers = []
        await client.result(request_id)

    assert not caught.value.maybe_sent
    assert {request_id: 1} == emulator.billed


async def test_tunnel_cut_after_the_request_leaves_the_outcome_uncertain(
    emulator: Emulator, secure: str, proxy: TunnelProxy
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with on_socket(secure) as client:
        for _ in range(2):
            with pytest.raises(ResultUncertainError):
                await client.wait_for(request_id)

    assert {request_id: 1} == emulator.result_calls
    assert 2 == len(proxy.asked)


async def test_proxy_of_the_environment_is_used_for_plain_http(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = ForwardProxy()

    async with listening(plain.handle) as proxy_url:
        monkeypatch.setenv("http_proxy", proxy_url)
        base = url.replace("127.0.0.1", NAME)
        async with on_socket(base, allow_insecure=True) as client:
            result = await client.wait_for(emulator.add_job())

    assert isinstance(result, Result)
    assert 2 == len(plain.asked)  # one poll, one billed call


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_key_for_this_machine_is_sent_to_no_proxy(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch, variable: str, host: str
) -> None:
    proxy = ForwardProxy()

    async with listening(proxy.handle) as proxy_url:
        monkeypatch.setenv(variable, proxy_url)
        async with on_socket(url.replace("127.0.0.1", host)) as client:
            result = await client.wait_for(emulator.add_job())
            saved = [chunk async for chunk in _chunks(client, result)]

    assert [] == proxy.asked
    assert saved


async def _chunks(client: AsyncQueueClient, result: Result) -> AsyncIterator[bytes]:
    async with client.stream(result.videos[0]) as stream:
        async for chunk in stream:
            yield chunk


async def test_proxy_over_tls_is_reached_with_trusted_certificates_only(
    certificate: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And they are not loaded again for each connection, which blocks the event loop."""
    chain, key = certificate
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    proxy = TunnelProxy([REFUSAL] * 9)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("https_proxy", f"https://localhost:{port}")
    loaded: list[str] = []
    monkeypatch.setattr(
        "httpcore._async.connection.default_ssl_context", lambda: loaded.append("again")
    )

    async with on_socket("https://films.example") as client:
        with pytest.raises(TransportError, match="407"):
            await client.submit("a reef")
    server.close()

    assert proxy.asked
    assert [] == loaded
