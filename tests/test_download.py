"""Downloads: what is saved, what is refused, where the key goes, and what errors say."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import pickle
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from raw_server import RawServer, answer, raw_server
from support import KEY, names, on_socket, result_of

from modelmax_async import (
    APIError,
    AsyncQueueClient,
    AuthenticationError,
    ClientStateError,
    DownloadError,
    Result,
    TransportError,
    Video,
)
from modelmax_async._download import sources
from modelmax_async._download.sinks import StreamSink
from modelmax_async._http import Transport
from modelmax_async.emulator import Content, Emulator, Fault, JobScript, sample_mp4
from modelmax_async.events import Event, VideoSaved

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SAMPLE = sample_mp4()
PATH = "/v1/queue/veo-3/requests/abc/content/0"


def content_of(content: Content, version: int = 0) -> bytes:
    return b"".join(content.window(0, content.total, version=version))


async def ready(
    client: AsyncQueueClient, emulator: Emulator, content: Content, videos: int = 1
) -> Result:
    """Have the emulator make a job with this content, and fetch its result."""
    script = JobScript(content=content, videos=videos)
    return await client.wait_for(emulator.add_job("reef", script=script))


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


class Roads(httpx.AsyncHTTPTransport):
    """Leads hosts of the public internet to servers on this machine, and notes the way."""

    def __init__(self, **ports: int) -> None:
        super().__init__()
        self.ports = {name.replace("_", "."): port for name, port in ports.items()}
        self.hosts: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        port = self.ports.get(request.url.host, request.url.port)
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=port)
        return await super().handle_async_request(request)


@asynccontextmanager
async def routed(url: str, **ports: int) -> AsyncIterator[tuple[AsyncQueueClient, list[str]]]:
    """A client whose other hosts are local servers; their headers and cookies are at risk."""
    roads = Roads(**ports)
    async with (
        httpx.AsyncClient(
            transport=roads,
            headers={"x-own": "secret", "authorization": "Bearer other"},
            cookies={"session": "secret"},
        ) as http_client,
        on_socket(url, http_client=http_client) as client,
    ):
        yield client, roads.hosts


async def test_every_video_is_saved_whole(emulator: Emulator, url: str, tmp_path: Path) -> None:
    content = Content(size=3 * MIB + 17)
    seen: list[Event] = []
    async with on_socket(url, hooks=[seen.append]) as client:
        result = await ready(client, emulator, content, videos=3)
        paths = await client.download(result, tmp_path / "new" / "videos")

    saved = [event for event in seen if isinstance(event, VideoSaved)]
    assert paths == [tmp_path / "new" / "videos" / f"reef-{index}.mp4" for index in range(3)]
    assert all(path.read_bytes() == content_of(content) for path in paths)
    assert names(paths[0].parent) == [path.name for path in paths]
    assert {str(path) for path in paths} == {event.path for event in saved}
    assert {(event.request_id, event.size) for event in saved} == {("reef", content.total)}


async def test_progress_counts_bytes_of_all_videos(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=3 * MIB)
    seen: list[tuple[int, int | None]] = []
    async with on_socket(url) as client:
        result = await ready(client, emulator, content, videos=2)
        await client.download(
            result, tmp_path, on_progress=lambda done, expected: seen.append((done, expected))
        )

    assert seen[0] == (0, None)
    assert seen[-1] == (6 * MIB, 6 * MIB)
    assert {expected for _, expected in seen} == {None, 6 * MIB}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) >= 6


async def test_progress_without_a_length_expects_nothing_until_the_end(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []

    def note(done: int, expected: int | None) -> None:
        seen.append((done, expected))
        raise RuntimeError("a callback's error is its own")

    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(size=2 * MIB, length=False))
        await client.download(result, tmp_path, on_progress=note)

    assert {expected for _, expected in seen[:-1]} == {None}
    assert seen[-1] == (2 * MIB, 2 * MIB)


async def test_complete_file_is_kept_unless_told_otherwise(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        (path,) = await client.download(result, tmp_path)
        await client.download(result, tmp_path, on_progress=lambda *pair: seen.append(pair))
        kept = emulator.contents["reef"]
        await client.download(result, tmp_path, overwrite=True)

    assert kept == 1
    assert seen == [(len(SAMPLE), len(SAMPLE))]
    assert emulator.contents["reef"] == 2
    assert path.read_bytes() == SAMPLE


@pytest.mark.parametrize("there", [b"", SAMPLE[:-1], b"<html>"])
async def test_incomplete_file_under_the_name_is_replaced(
    emulator: Emulator, url: str, tmp_path: Path, there: bytes
) -> None:
    (tmp_path / "reef-0.mp4").write_bytes(there)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, Content()), tmp_path)

    assert path.read_bytes() == SAMPLE


async def test_downloads_hold_half_of_the_slots_at_most(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=MIB, delay=0.005)
    async with on_socket(url, max_in_flight=4) as client:
        result = await ready(client, emulator, content, videos=4)
        task = asyncio.create_task(client.download(result, tmp_path))
        await asyncio.sleep(0.05)
        during = emulator.in_flight
        await client.status("reef")
        done = task.done()
        await task

    assert during == 2
    assert not done


async def test_bad_gateway_is_retried(emulator: Emulator, url: str, tmp_path: Path) -> None:
    emulator.fault("content", Fault.error(502, retry_after="0"))
    emulator.fault("content", Fault.html(503))
    emulator.fault("content", Fault.error(429, type="rate_limit"))
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, Content()), tmp_path)

    assert path.read_bytes() == SAMPLE
    assert emulator.contents["reef"] == 4


async def test_lasting_bad_gateway_ends_after_the_attempts(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.error(502), times=None)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=r"502.*paid result is safe.*later") as caught:
            await client.download(result, tmp_path)

    assert emulator.contents["reef"] == 4
    assert names(tmp_path) == []
    assert isinstance(caught.value.__cause__, APIError)
    assert emulator.billed["reef"] == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (400, "may have expired"),
        (401, "check the API key"),
        (402, "top up"),
        (403, "may have expired"),
        (404, "may have expired"),
        (410, "may have expired"),
        (418, "later"),
        (304, "HTTP 304 is neither"),
    ],
)
async def test_refusals_end_at_once_and_say_why(
    emulator: Emulator, url: str, tmp_path: Path, status: int, says: str
) -> None:
    emulator.fault("content", Fault.raw(status, b"x" * 100_000), times=None)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=says) as caught:
            await client.download(result, tmp_path)

    assert emulator.contents["reef"] == 1
    assert names(tmp_path) == []
    assert "/content/0" in caught.value.url
    assert caught.value.job is not None
    assert caught.value.job.request_id == "reef"
    assert caught.value.part is None
    assert "fetch the result" not in str(caught.value)
    assert caught.value == pickle.loads(pickle.dumps(caught.value))
    assert KEY not in repr(vars(caught.value)) + str(caught.value)


async def test_failure_of_one_video_leaves_the_others(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.error(401, type="unauthorized"), times=2)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(), videos=3)
        with pytest.raises(DownloadError) as caught:
            await client.download(result, tmp_path)
        saved = len(names(tmp_path))
        await client.download(result, tmp_path)

    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert len(caught.value.__notes__) == 1
    assert saved == 1
    assert emulator.contents["reef"] == 5


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>try later</html>", "text/html"),
        (b'{"error": {"message": "no"}}', "application/json"),
        (b"<html>try later</html>", "video/mp4"),
        (b"none", "application/octet-stream"),
        (b"", "video/mp4"),
    ],
)
@pytest.mark.parametrize("length", [True, False])
async def test_what_is_no_video_is_not_saved(
    emulator: Emulator, url: str, tmp_path: Path, body: bytes, kind: str, *, length: bool
) -> None:
    content = Content(body=body, content_type=kind, etag='"a"', length=length)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError, match=r"not an? (MP4|video)|middle of the video"):
            await client.download(result, tmp_path)
        with pytest.raises(
            DownloadError, match=r"not an? (MP4|video)|middle of|cannot be resumed"
        ):
            async with client.stream(result.videos[0]) as chunks:
                assert [chunk async for chunk in chunks] == [body]

    assert [name for name in names(tmp_path) if name.endswith(".mp4")] == []


@pytest.mark.parametrize("cut", [1, 700, 922, 930, len(SAMPLE) - 1])
async def test_video_cut_off_without_a_length_is_recognised(tmp_path: Path, cut: int) -> None:
    ends = answer(SAMPLE[:cut], "content-type: video/mp4", length=False)
    async with (
        raw_server(ends) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(DownloadError, match="middle of the video"):
            await client.download(result_of(PATH), tmp_path)

    assert names(tmp_path) == []
    assert len(server.asked) == 4


async def test_video_that_ends_with_its_connection_is_saved(tmp_path: Path) -> None:
    cut = answer(SAMPLE[:2000], "content-type: video/mp4", length=False)
    whole = answer(SAMPLE, "content-type: video/mp4", length=False)
    async with (
        raw_server(cut, whole) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert path.read_bytes() == SAMPLE
    assert server.asked[0]["accept-encoding"] == "identity"


async def test_compressed_body_is_refused(emulator: Emulator, url: str, tmp_path: Path) -> None:
    emulator.fault("content", Fault.gzip())
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=r"Content-Encoding: gzip"):
            await client.download(result, tmp_path)

    assert names(tmp_path) == []


@pytest.mark.parametrize("extra", [-1, 1])
async def test_length_that_a_transport_does_not_enforce_is_checked(
    tmp_path: Path, extra: int
) -> None:
    body = SAMPLE[:extra] if extra < 0 else SAMPLE + b"x"
    headers = {"content-length": str(len(SAMPLE))}
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, stream=httpx.ByteStream(body), headers=headers)
    )
    async with (
        httpx.AsyncClient(transport=transport) as http_client,
        on_socket("http://127.0.0.1:1", http_client=http_client) as client,
    ):
        with pytest.raises(DownloadError, match=r"ended after|announced"):
            await client.download(result_of(PATH), tmp_path)

    assert names(tmp_path) == []


async def test_server_that_falls_silent_is_left(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.hang(5), times=None)
    content = Content(size=MIB, delay=5)
    async with on_socket(url, timeout=0.1) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError, match="interrupted") as caught:
            await client.download(result, tmp_path)
        emulator.clear_faults()
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result, tmp_path)

    assert isinstance(caught.value.__cause__, TransportError)
    assert names(tmp_path) == []


def own(server: RawServer) -> str:
    return f"http://127.0.0.1:{server.port}"


async def test_another_host_never_sees_the_key(tmp_path: Path) -> None:
    async with (
        raw_server(answer(SAMPLE)) as away,
        raw_server() as home,
        routed(own(home), cdn_example=away.port) as (client, hosts),
    ):
        (path,) = await client.download(result_of("https://cdn.example/v.mp4?sig=1"), tmp_path)

    assert path.read_bytes() == SAMPLE
    assert hosts == ["cdn.example"]
    assert set(away.asked[0]) & {"authorization", "cookie", "x-own"} == set()
    assert KEY not in str(away.asked)


async def test_redirect_to_another_host_leaves_the_key_behind(tmp_path: Path) -> None:
    to_cdn = answer(b"", "location: https://cdn.example/v.mp4", status="302 Found")
    onward = answer(b"", "location: /w.mp4", status="307 Temporary Redirect")
    async with (
        raw_server(onward, answer(SAMPLE)) as away,
        raw_server(to_cdn) as home,
        routed(own(home), cdn_example=away.port) as (client, hosts),
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert path.read_bytes() == SAMPLE
    assert hosts == ["127.0.0.1", "cdn.example", "cdn.example"]
    assert home.asked[0]["authorization"] == f"Bearer {KEY}"
    assert [asked.get("authorization") for asked in away.asked] == [None, None]
    assert away.asked[1][""] == "GET /w.mp4 HTTP/1.1"


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://cdn.example/v.mp4", "over https only"),
        ("https://10.0.0.1/v.mp4", "private network"),
        ("file:///etc/passwd", "must start with https"),
        ("/v1/queue/veo-3/requests/abc", "may be billed"),
        ("", "malformed"),
        (PATH, "more than 5 times"),
    ],
)
async def test_redirect_to_what_is_not_fetched_is_an_error(
    tmp_path: Path, location: str, says: str
) -> None:
    moved = answer(b"", f"location: {location}", status="301 Moved Permanently")
    async with raw_server(moved) as home, on_socket(own(home)) as client:
        with pytest.raises(DownloadError, match=says):
            await client.download(result_of(PATH), tmp_path)

    assert len(home.asked) == (6 if location == PATH else 1)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "address",
    [
        "http://cdn.example/v.mp4?sig=secret",
        "https://192.168.0.1/v.mp4?sig=secret",
        "https://user:secret@cdn.example/v.mp4",
        "file:///etc/passwd?secret",
        "/v1/queue/veo-3/requests/abc?secret",
    ],
)
async def test_what_is_not_fetched_is_an_error_before_any_io(
    emulator: Emulator, url: str, tmp_path: Path, address: str
) -> None:
    async with on_socket(url) as client:
        with pytest.raises(DownloadError) as caught:
            await client.download(result_of(address), tmp_path / "never")
        with pytest.raises(DownloadError):
            async with client.stream(Video(address, 0)):
                pass

    assert emulator.requests == []
    assert names(tmp_path) == []
    assert "secret" not in str(caught.value) + caught.value.url
    assert caught.value.url


async def test_name_that_stands_for_a_private_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def inside(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", ("93.184.216.34", 443)), (0, 0, 0, "", ("10.0.0.7", 443))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", inside)
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match="private network"):
            await client.download(result_of("https://inside.example/v"), tmp_path)

    assert names(tmp_path) == []


async def test_name_that_does_not_resolve_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def nowhere(host: Any, *_: Any, **__: Any) -> list[Any]:
        asked.append(str(host))
        if len(asked) % 2:
            return [(0, 0, 0, "", ("93.184.216.34", 443))]
        raise OSError(errno.EADDRNOTAVAIL, "no such name")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nowhere)
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result_of("https://nowhere.example/v"), tmp_path)

    assert len(asked) == 8
    asked[:] = ["first"]
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result_of("https://nowhere.example/v"), tmp_path)


async def test_certificates_are_checked(
    emulator: Emulator,
    made_certificate: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, key = made_certificate
    emulator.add_job("reef")
    (content_id,) = [job.content_id for job in emulator.jobs.values()]
    path = f"/v1/queue/veo-3/requests/{quote(content_id, safe='')}/content/0"
    async with emulator.serve(ssl_certfile=certificate, ssl_keyfile=key) as url:
        base = url.replace("127.0.0.1", "localhost")
        async with on_socket(base) as client:
            with pytest.raises(DownloadError, match="certificate verify failed"):
                await client.download(result_of(path), tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        async with on_socket(base) as client:
            (saved,) = await client.download(result_of(path), tmp_path)

    assert SAMPLE == saved.read_bytes()


async def test_transport_of_the_callers_own_is_borrowed(emulator: Emulator, url: str) -> None:
    settings = AsyncQueueClient(api_key=KEY, base_url=url)._engine.settings
    async with httpx.AsyncHTTPTransport() as inner:
        receiver = Transport(settings, 1.0, inner).receiver
        for _ in range(2):
            async with receiver.receive(url + PATH, {}, with_key=True) as incoming:
                status = incoming.status

    assert status == 400
    assert len(emulator.requests) == 2


async def test_names_do_not_come_from_the_server(tmp_path: Path) -> None:
    evil = answer(SAMPLE, 'content-disposition: attachment; filename="../../evil.mp4"')
    inside = tmp_path / "a" / "b"
    async with raw_server(evil) as home, on_socket(own(home)) as client:
        (path,) = await client.download(result_of(PATH, request_id="../../evil"), inside)

    assert path.parent == inside
    assert everything(tmp_path) == ["a", "a/b", f"a/b/{path.name}"]


@pytest.mark.parametrize("urls", [(), (PATH,)])
async def test_result_of_the_users_own_making_needs_no_model(
    tmp_path: Path, urls: tuple[str, ...]
) -> None:
    async with (
        raw_server(answer(b"", status="404 Not Found")) as home,
        on_socket(own(home)) as client,
    ):
        result = Result("..", "", tuple(Video(u, 0) for u in urls))
        if not urls:
            assert await client.download(result, tmp_path) == []
            return
        with pytest.raises(DownloadError) as caught:
            await client.download(result, tmp_path)

    assert caught.value.job is None


async def test_videos_with_one_index_are_refused(tmp_path: Path) -> None:
    result = Result("a", "veo-3", (Video(PATH, 0), Video(PATH, 0)))
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="the same index"):
            await client.download(result, tmp_path)


def data_url(body: bytes) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(body).decode()}"


async def test_data_url_is_saved_and_streamed(tmp_path: Path) -> None:
    result = result_of(data_url(SAMPLE))
    async with on_socket("http://127.0.0.1:1") as client:
        (path,) = await client.download(result, tmp_path)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    assert path.read_bytes() == SAMPLE
    assert streamed == SAMPLE


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("data:video/mp4;base64,AA=A", "malformed"),
        ("data:video/mp4", "malformed"),
        (data_url(SAMPLE + bytes(9000)), "more than 9000 bytes"),
        (data_url(SAMPLE[:-1]), "not a complete MP4"),
        (data_url(b"<html>error</html>"), "not a video"),
    ],
)
async def test_bad_data_urls_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setattr(sources, "MAX_DATA", 9000)
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match=says) as caught:
            await client.download(result_of(address), tmp_path)

    assert names(tmp_path) == []
    assert caught.value.url == "data:…"


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A disk that has room for so many bytes only."""
    room = [MIB + 5000]
    write = os.write

    def short(number: int, data: memoryview) -> int:
        if not isinstance(data, memoryview):
            return write(number, data)
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(number, data[: room[0]])
        room[0] -= done
        return done

    monkeypatch.setattr(os, "write", short)
    yield room
    monkeypatch.undo()


@pytest.mark.parametrize("etag", ['"a"', None])
async def test_full_disk_keeps_what_can_be_gone_on_with(
    emulator: Emulator, url: str, tmp_path: Path, full_disk: list[int], etag: str | None
) -> None:
    content = Content(size=3 * MIB, etag=etag)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError, match=r"disk is full.*free some space") as caught:
            await client.download(result, tmp_path)
        left = [tmp_path.joinpath(name) for name in names(tmp_path)]
        sizes = [path.stat().st_size for path in left]
        full_disk[0] = 9 * MIB
        (path,) = await client.download(result, tmp_path)

    asked = emulator.requests[-1].headers.get("range")
    assert [str(found) for found in left] == ([caught.value.part] if etag else [])
    assert sizes == ([MIB + 5000] if etag else [])
    assert asked == (f"bytes={MIB + 5000}-" if etag else None)
    assert content_of(content) == path.read_bytes()
    assert names(tmp_path) == ["reef-0.mp4"]


async def test_disk_that_refuses_to_keep_leaves_nothing(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(DownloadError, match="Input/output error"):
            await client.download(result, tmp_path)

    assert names(tmp_path) == []


async def test_bytes_are_on_the_disk_before_the_name_is(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            steps.append(name)
            return function(*arguments, **options)

        return call

    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(size=2 * MIB))
        monkeypatch.setattr(os, "fsync", noting("fsync", os.fsync))
        monkeypatch.setattr(Path, "replace", noting("replace", Path.replace))
        await client.download(result, tmp_path)

    assert steps == ["fsync", "replace", "fsync"]


def no_directory(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def below_a_file(path: Path) -> Path:
    return no_directory(path) / "videos"


def name_taken(path: Path) -> Path:
    (path / "reef-0.mp4").mkdir(parents=True)
    return path


def part_taken(path: Path) -> Path:
    (path / "reef-0.mp4.part").mkdir(parents=True)
    return path


def part_is_a_pipe(path: Path) -> Path:
    path.mkdir()
    os.mkfifo(path / "reef-0.mp4.part")
    return path


def part_is_a_link(path: Path) -> Path:
    path.mkdir()
    (path / "reef-0.mp4.part").symlink_to(path.parent / "victim")
    (path.parent / "victim").write_bytes(b"precious")
    return path


@pytest.mark.parametrize(
    "prepare",
    [no_directory, below_a_file, name_taken, part_taken, part_is_a_pipe, part_is_a_link],
)
async def test_directory_that_will_not_do_is_an_error(
    emulator: Emulator, url: str, tmp_path: Path, prepare: Callable[[Path], Path]
) -> None:
    directory = prepare(tmp_path / "place")
    before = everything(tmp_path)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match="cannot be written to") as caught:
            await client.download(result, directory)

    assert isinstance(caught.value.__cause__, OSError)
    assert before == everything(tmp_path)
    assert emulator.contents["reef"] == 0


async def test_read_only_directory_is_an_error(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, *rest, **options)

    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        monkeypatch.setattr(os, "open", refuse)  # root may write anywhere
        with pytest.raises(DownloadError, match=r"cannot be written to.*Permission denied"):
            await client.download(result, tmp_path)

    assert names(tmp_path) == []
    assert emulator.contents["reef"] == 0


async def test_link_to_a_complete_video_is_kept_and_a_broken_one_replaced(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    store = tmp_path / "store.mp4"
    link = tmp_path / "reef-0.mp4"
    link.symlink_to(store)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        await client.download(result, tmp_path)
        replaced = not link.is_symlink() and not store.exists()
        link.unlink()
        store.write_bytes(SAMPLE)
        link.symlink_to(store)
        await client.download(result, tmp_path)

    assert replaced
    assert link.is_symlink()
    assert emulator.contents["reef"] == 1


async def test_stream_gives_all_bytes_in_bounded_chunks(emulator: Emulator, url: str) -> None:
    content = Content(size=5 * MIB)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as chunks:
            await asyncio.sleep(0.2)  # a slow reader
            parts = [chunk async for chunk in chunks]

    assert content_of(content) == b"".join(parts)
    assert max(map(len, parts)) <= MIB


async def test_stream_runs_ahead_of_its_reader_by_a_few_chunks_only() -> None:
    sink = StreamSink()
    taken = 0
    with pytest.raises(TimeoutError):  # noqa: PT012 - it is the loop that must not end
        async with asyncio.timeout(0.05):
            while taken < 100:
                await sink.write(b"x")
                taken += 1

    assert taken == 16


async def test_stream_goes_on_where_it_broke_off(emulator: Emulator, url: str) -> None:
    content = Content(size=MIB, etag='"a"', cut_after=300_001, cut_times=2)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    assert content_of(content) == streamed
    assert emulator.contents["reef"] == 3


async def test_stream_that_cannot_go_on_says_so(emulator: Emulator, url: str) -> None:
    content = Content(size=MIB, cut_after=300_001)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        taken = 0
        async with client.stream(result.videos[0]) as chunks:
            with pytest.raises(DownloadError, match=r"after 300001 bytes") as caught:  # noqa: PT012 - it comes after the bytes
                async for chunk in chunks:
                    taken += len(chunk)

    assert taken == 300_001
    assert caught.value.part is None


async def test_stream_left_early_stops_the_transfer(emulator: Emulator, url: str) -> None:
    content = Content(size=8 * MIB, delay=0.01)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as chunks:
            first = await anext(chunks)
        for _ in range(100):
            if not emulator.in_flight:
                break
            await asyncio.sleep(0.01)
        with pytest.raises(ClientStateError):
            assert [chunk async for chunk in chunks] == []

    assert first
    assert emulator.in_flight == 0


async def test_stream_of_a_closed_client_ends(emulator: Emulator, url: str) -> None:
    content = Content(size=8 * MIB, delay=0.01)
    client = on_socket(url)
    result = await ready(client, emulator, content)
    async with client.stream(result.videos[0]) as chunks:
        await anext(chunks)
        await client.aclose()
        with pytest.raises(ClientStateError):
            assert [chunk async for chunk in chunks] == []
    with pytest.raises(ClientStateError):
        client.stream(result.videos[0])
    with pytest.raises(ClientStateError):
        await client.download(result, "never")


async def test_error_of_a_stream_comes_on_entering(emulator: Emulator, url: str) -> None:
    emulator.fault("content", Fault.error(401, type="unauthorized"))
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match="401"):
            async with client.stream(result.videos[0]):
                pytest.fail("the stream was opened")


async def test_memory_does_not_grow_with_the_video(emulator: Emulator, tmp_path: Path) -> None:
    content = Content(size=32 * MIB)
    async with emulator.serve() as url, on_socket(url) as client:
        result = await ready(client, emulator, content)
        tracemalloc.start()
        try:
            await client.download(result, tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak < 16 * MIB
