"""The SDK connects to the address that was checked, and trusts no other certificate."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
from download_support import SAMPLE
from proxies import NAME, TunnelProxy
from raw_server import RawServer, answer, listening
from resolver import Answer, resolving
from support import IMPATIENT, KEY, on_socket, result_of, until

from modelmax_async import DownloadError, ResourceLimits, TransportError
from modelmax_async._download import open_files
from modelmax_async._http import addresses, network
from modelmax_async._http.addresses import Choice, RefusedError, public
from modelmax_async._http.lookups import Known, Lookups
from modelmax_async._http.network import Network
from modelmax_async.emulator import Emulator

pytestmark = pytest.mark.anyio

PUBLIC, OTHER = "93.184.216.34", "2606:2800:220:1::1"
ONCE = attrs.evolve(IMPATIENT, attempts=1)


@attrs.define(eq=False)
class Stream:
    """A connection that was made."""

    address: str
    closed: bool = False

    async def aclose(self) -> None:
        self.closed = True


@attrs.define
class Inner:
    """A network where each address connects, refuses or hangs as it is told."""

    acts: dict[str, Callable[[], Any]] = attrs.field(factory=dict)
    tried: list[str] = attrs.field(factory=list)
    streams: list[Stream] = attrs.field(factory=list)

    async def connect_tcp(self, host: str, port: int, **options: Any) -> Stream:
        self.tried.append(host)
        await self.acts.get(host, lambda: asyncio.sleep(0))()
        self.streams.append(Stream(host))
        return self.streams[-1]

    async def connect_unix_socket(self, path: str, **options: Any) -> Stream:
        return await self.connect_tcp(path, 0)

    async def sleep(self, seconds: float) -> None:
        self.tried.append("slept")


async def refuse() -> None:
    raise httpx.ConnectError("refused")


async def hang() -> None:
    await asyncio.sleep(60)


def backend(
    inner: Inner, choose: Choice | None = None, lookups: Lookups | Known | None = None
) -> Any:
    """The network backend that a transport gets, over that network."""
    transport = httpx.AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    pool: Any = transport._pool
    pool._network_backend = inner
    Network(lookups or Lookups(4, 5.0), choose).carry(transport)
    return pool._network_backend


async def test_name_is_looked_up_once_and_its_checked_address_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that resolves to a private address the second time gains nothing."""
    turns = iter([[PUBLIC], ["127.0.0.1"], ["127.0.0.1"]])
    asked = resolving(monkeypatch, {"rebind.example": lambda: next(turns)})
    inner = Inner()

    stream = await backend(inner, public).connect_tcp("rebind.example", 443)
    with pytest.raises(RefusedError, match="private network"):
        await backend(inner, public).connect_tcp("rebind.example", 443)

    assert PUBLIC == stream.address
    assert [PUBLIC] == inner.tried
    assert ["rebind.example"] * 2 == asked


async def test_host_that_a_response_names_is_looked_up_before_and_not_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = iter([[PUBLIC], ["127.0.0.1"]])
    asked = resolving(monkeypatch, {"rebind.example": lambda: next(turns)})
    inner = Inner()

    known = await Known.of("rebind.example", Lookups(4, 5.0), public, 5.0)
    for _ in range(2):
        await backend(inner, lookups=known).connect_tcp("rebind.example", 443)

    assert ["rebind.example"] == asked
    assert [PUBLIC] * 2 == inner.tried


def broken() -> list[str]:
    raise RuntimeError("broken")


def late() -> list[str]:
    time.sleep(0.5)
    return [PUBLIC]


@pytest.mark.parametrize(
    ("answer", "limits", "kind", "says"),
    [
        ([PUBLIC, "10.0.0.7"], (5.0, 5.0), RefusedError, "private network"),
        ([], (5.0, 5.0), httpx.ConnectError, "h.example has no address"),
        (broken, (5.0, None), httpx.ConnectError, "broken"),
        (late, (0.1, None), httpx.ConnectTimeout, "look-up of h.example took more than 0.1 s"),
        (late, (5.0, 0.1), httpx.ConnectTimeout, "h.example was not reached in 0.1 seconds"),
    ],
    ids=["private", "none", "broken", "late", "timeout"],
)
async def test_error_of_a_look_up_before_is_that_of_the_connection(
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    limits: tuple[float, float | None],
    kind: type[Exception],
    says: str,
) -> None:
    resolving(monkeypatch, {"h.example": answer})
    inner = Inner()
    known = await Known.of("h.example", Lookups(4, limits[0]), public, limits[1])

    with pytest.raises(kind, match=says) as caught:
        await backend(inner, lookups=known).connect_tcp("h.example", 443)

    assert kind is type(caught.value)
    assert [] == inner.tried


async def test_next_address_is_tried_as_soon_as_one_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})
    connect = backend(Inner({OTHER: refuse})).connect_tcp
    monkeypatch.setattr(network, "_STAGGER", 60.0)

    async with asyncio.timeout(10):
        stream = await connect("h", 443)

    assert PUBLIC == stream.address


async def test_next_address_is_tried_beside_one_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})
    inner = Inner({OTHER: hang})

    async with asyncio.timeout(3):
        stream = await backend(inner).connect_tcp("h", 443)

    assert [OTHER, PUBLIC] == inner.tried
    assert PUBLIC == stream.address
    assert not stream.closed


async def test_address_that_takes_its_time_is_waited_for_if_the_others_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused = asyncio.Event()

    async def refuse_in_time() -> None:
        refused.set()
        await refuse()

    async def accept_later() -> None:
        await refused.wait()
        await asyncio.sleep(0.05)

    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})
    inner = Inner({OTHER: accept_later, PUBLIC: refuse_in_time})

    stream = await backend(inner).connect_tcp("h", 443)

    assert OTHER == stream.address


async def test_error_of_the_first_address_is_raised_if_all_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def later() -> None:
        raise httpx.ConnectError("unreachable")

    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})

    with pytest.raises(httpx.ConnectError, match="refused"):
        await backend(Inner({OTHER: refuse, PUBLIC: later})).connect_tcp("h", 443)


async def test_few_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [f"93.184.216.{i}" for i in range(99)]
    resolving(monkeypatch, {"h": many})
    inner = Inner(dict.fromkeys(many, refuse))

    with pytest.raises(httpx.ConnectError, match="refused"):
        await backend(inner).connect_tcp("h", 443)

    assert many[:8] == inner.tried


async def test_connections_beside_the_first_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    both = asyncio.Event()
    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})
    inner = Inner({OTHER: both.wait, PUBLIC: both.wait})
    connecting = asyncio.create_task(backend(inner).connect_tcp("h", 443))

    while len(inner.tried) < 2:
        await asyncio.sleep(0.01)
    both.set()  # they connect in the same turn of the event loop
    stream = await connecting

    assert 2 == len(inner.streams)
    assert [False, True] == sorted(each.closed for each in inner.streams)
    assert not stream.closed


async def test_connecting_that_is_cancelled_tries_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await hang()
        finally:
            ended.append("stopped")

    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})
    inner = Inner({OTHER: wait, PUBLIC: wait})
    connecting = asyncio.create_task(backend(inner).connect_tcp("h", 443))

    while len(inner.tried) < 2:
        await asyncio.sleep(0.01)
    connecting.cancel()
    await asyncio.wait([connecting])
    await asyncio.sleep(0)

    assert connecting.cancelled()
    assert ["stopped"] * 2 == ended


async def test_connecting_has_the_time_limit_of_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolving(monkeypatch, {"h": [OTHER, PUBLIC]})
    inner = Inner({OTHER: hang, PUBLIC: hang})

    with pytest.raises(httpx.ConnectTimeout, match=r"h was not reached in 0\.4 seconds"):
        await backend(inner).connect_tcp("h", 443, timeout=0.4)


async def test_rest_of_the_network_is_left_as_it_is() -> None:
    inner = Inner()
    carried = backend(inner)

    stream = await carried.connect_unix_socket("/run/s", timeout=1.0, socket_options=None)
    await carried.sleep(0)

    assert "/run/s" == stream.address
    assert ["/run/s", "slept"] == inner.tried


@attrs.define
class Secure:
    """An HTTPS server of `NAME` and of this machine, and what it was asked."""

    served: RawServer
    port: int = 0


@asynccontextmanager
async def serving(files: tuple[str, str]) -> AsyncIterator[Secure]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    served = RawServer([answer(SAMPLE, "content-type: video/mp4")])
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0, ssl=context)
    yield Secure(served, server.sockets[0].getsockname()[1])
    server.close()


@pytest.fixture
def everything_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a server of a test, which is on this machine, can be another host."""
    monkeypatch.setattr(addresses, "is_private", lambda _: False)


@pytest.mark.usefixtures("everything_is_public")
async def test_certificate_is_that_of_the_name_and_not_of_the_address(
    certificate: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, {NAME: ["127.0.0.1"], "cdn.example": ["127.0.0.1"]})
    async with serving(certificate) as secure, on_socket("http://127.0.0.1:9") as client:
        video = result_of(f"https://{NAME}:{secure.port}/v")
        (saved,) = await client.download(video, tmp_path)
        with pytest.raises(DownloadError, match=r"not valid for 'cdn\.example'"):
            await client.download(
                result_of(f"https://cdn.example:{secure.port}/v", request_id="kelp"), tmp_path
            )

    assert SAMPLE == saved.read_bytes()
    assert {NAME, "cdn.example"} == set(asked)
    assert [f"{NAME}:{secure.port}"] == [each["host"] for each in secure.served.asked]


@pytest.mark.usefixtures("everything_is_public")
@pytest.mark.parametrize("scheme", ["HTTPS", "Https", "https"])
async def test_untrusted_certificate_is_refused_however_the_scheme_is_written(
    made_certificate: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
) -> None:
    resolving(monkeypatch, {NAME: ["127.0.0.1"]})
    async with serving(made_certificate) as secure:
        away = f"{scheme}://{NAME}:{secure.port}/v"
        moved = answer(b"", f"location: {away}", status="302 Found")
        async with (
            listening(RawServer([moved]).handle) as home,
            on_socket(home, retry=ONCE) as client,
        ):
            for url in (away, "/v/0"):  # in the result, or in a redirect
                with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.download(result_of(url), tmp_path)

    assert [] == secure.served.asked


async def test_key_is_not_sent_to_an_untrusted_server_however_the_scheme_is_written(
    made_certificate: tuple[str, str], tmp_path: Path
) -> None:
    async with (
        serving(made_certificate) as secure,
        on_socket(f"HTTPS://127.0.0.1:{secure.port}/api", retry=ONCE) as client,
    ):
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.submit("a reef")
        with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
            await client.download(result_of("/v/0"), tmp_path)

    assert [] == secure.served.asked


async def test_connections_for_plain_http_trust_no_certificate(
    certificate: tuple[str, str],
) -> None:
    """Even if an https request reached them by mistake."""
    async with serving(certificate) as secure, on_socket("http://127.0.0.1:9") as client:
        own = client._engine.http._routes.client
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await own.send(httpx.Request("GET", f"https://127.0.0.1:{secure.port}/"))

    assert [] == secure.served.asked


async def test_localhost_is_this_machine_whatever_it_resolves_to(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is sent unencrypted there, and a resolver may be another machine's."""
    resolving(monkeypatch, {"localhost": ["192.0.2.1", "127.0.0.1"]})
    base = url.replace("127.0.0.1", "localhost")
    async with on_socket(base) as client:
        result = await client.wait_for(emulator.add_job())
    resolving(monkeypatch, {"localhost": ["192.0.2.1"]})
    async with on_socket(base, retry=ONCE) as client:
        with pytest.raises(TransportError, match="does not resolve to this machine") as caught:
            await client.submit("a reef")
        with pytest.raises(DownloadError, match="does not resolve to this machine"):
            async with client.stream(result.videos[0]):
                pass

    assert not caught.value.maybe_sent


@pytest.mark.usefixtures("everything_is_public")
async def test_host_behind_a_proxy_may_be_unknown_here(
    certificate: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, {})
    proxy = TunnelProxy()
    async with serving(certificate) as secure, listening(proxy.handle) as proxy_url:
        monkeypatch.setenv("https_proxy", proxy_url)
        async with on_socket("http://127.0.0.1:9") as client:
            video = result_of(f"https://{NAME}:{secure.port}/v")
            (saved,) = await client.download(video, tmp_path)

    assert SAMPLE == saved.read_bytes()
    assert KEY.encode() not in b"".join(proxy.asked)


async def test_host_behind_a_proxy_is_refused_if_it_is_private_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, {"inside.example": ["10.0.0.7"]})
    proxy = TunnelProxy()
    async with listening(proxy.handle) as proxy_url:
        monkeypatch.setenv("https_proxy", proxy_url)
        async with on_socket("http://127.0.0.1:9") as client:
            with pytest.raises(DownloadError, match="private network"):
                await client.download(result_of("https://inside.example/v"), tmp_path)

    assert [] == proxy.asked


async def test_hundreds_of_slow_host_names_hold_up_nothing_else(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    now: list[int] = []

    def slow() -> list[str]:
        now.append(1)
        go.wait(20)
        return []

    hosts = [f"h{i}.example" for i in range(100)]
    resolving(monkeypatch, dict.fromkeys(hosts, slow) | {"localhost": ["127.0.0.1"]})
    client = on_socket(
        url.replace("127.0.0.1", "localhost"),
        retry=ONCE,
        limits=ResourceLimits(lookups=5),
        max_in_flight=400,
    )
    saving = asyncio.create_task(
        client.download(result_of(*[f"https://{host}/v" for host in hosts]), tmp_path)
    )
    async with asyncio.timeout(18):
        await until(lambda: len(now) == 5, within=15)
        loop = asyncio.get_running_loop()
        answers = await asyncio.gather(*(loop.run_in_executor(None, int) for _ in range(64)))
        result = await client.wait_for(emulator.add_job())
    saving.cancel()
    await asyncio.wait([saving])
    go.set()
    await client.aclose()

    assert [0] * 64 == answers
    assert result.videos
    assert 5 == len(now)


async def test_slow_host_names_do_not_hold_up_the_videos_of_the_api(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hold neither the slot for a download, nor all places for open files."""
    go = threading.Event()
    asked: list[int] = []

    def slow() -> list[str]:
        asked.append(1)
        go.wait(20)
        return []

    monkeypatch.setattr(open_files, "_OPEN", 4)
    hosts = [f"h{i}.example" for i in range(20)]
    resolving(monkeypatch, dict.fromkeys(hosts, slow))
    async with on_socket(url, retry=ONCE, max_in_flight=2) as client:
        videos = result_of(*[f"https://{host}/v" for host in hosts], request_id="slow")
        saving = asyncio.create_task(client.download(videos, tmp_path))
        await until(lambda: len(asked) == 2)
        result = await client.wait_for(emulator.add_job())
        async with asyncio.timeout(5):
            (saved,) = await client.download(result, tmp_path)
        saving.cancel()
        await asyncio.wait([saving])
    go.set()

    assert SAMPLE == saved.read_bytes()
