"""Money through a proxy's tunnel: what a company's network does to TLS, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
from support import IMPATIENT, KEY, on_socket

from modelmax_async import AsyncQueueClient, ResultUncertainError, TransportError
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio
REFUSAL = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


@attrs.define
class Proxy:
    """Answers each CONNECT with the next of ``answers``, then with a tunnel.

    ``asked`` has the head of each request, ``seen`` all that went through the tunnels.
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
            far_reader, far_writer = await asyncio.open_connection(host, int(port))
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


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """A proxy that the environment names for https."""
    found = Proxy()
    server = await asyncio.start_server(found.handle, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.setenv("https_proxy", found.url)
    yield found
    server.close()


@pytest.fixture
async def secure(emulator: Emulator, certificate: Sequence[str]) -> AsyncIterator[str]:
    """The emulator's base URL, over TLS."""
    chain, key = certificate
    async with emulator.serve(ssl_certfile=chain, ssl_keyfile=key) as url:
        yield url.replace("127.0.0.1", "localhost")


@asynccontextmanager
async def _through(
    kind: str, url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncQueueClient]:
    """A client behind the proxy of the environment, or one whose own httpx client is."""
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
    emulator: Emulator, secure: str, proxy: Proxy, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=0.05)) for _ in range(5)]

    async with _through(kind, secure, proxy, monkeypatch) as client:
        results = await client.gather_results(ids)

    assert [result.request_id for result in results] == ids
    assert dict.fromkeys(ids, 1) == emulator.billed
    assert all(head.startswith(b"CONNECT localhost:") for head in proxy.asked)
    assert KEY.encode() not in b"".join(proxy.asked) + bytes(proxy.seen)
    assert len(proxy.seen) > 5000


async def test_tunnel_refused_for_the_billed_call_sends_nothing_and_is_tried_again(
    emulator: Emulator, secure: str, proxy: Proxy
) -> None:
    request_id = emulator.add_job()

    async with on_socket(secure) as client:
        await client.status(request_id)  # its tunnel stays open for the polls to come
        proxy.answers = [REFUSAL, TUNNEL, b""]
        result = await client.wait_for(request_id)

    assert result.request_id == request_id
    assert {request_id: 1} == emulator.result_calls
    assert [] == proxy.answers
    assert len(proxy.asked) == 5  # one for the polls, three that failed, and the paid one's


async def test_result_behind_a_tunnel_that_stays_refused_is_free_for_the_next(
    emulator: Emulator, secure: str, proxy: Proxy
) -> None:
    request_id = emulator.add_job()
    proxy.answers = [REFUSAL] * 20

    async with on_socket(secure, retry=attrs.evolve(IMPATIENT, attempts=2)) as client:
        with pytest.raises(TransportError, match=r"was not sent.*407") as caught:
            await client.result(request_id)
        assert not caught.value.maybe_sent
        proxy.answers = []
        await client.result(request_id)

    assert {request_id: 1} == emulator.billed


async def test_tunnel_cut_after_the_request_leaves_the_outcome_uncertain(
    emulator: Emulator, secure: str, proxy: Proxy
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with on_socket(secure) as client:
        for _ in range(2):
            with pytest.raises(ResultUncertainError):
                await client.wait_for(request_id)

    assert {request_id: 1} == emulator.result_calls
    assert len(proxy.asked) == 2
