"""Downloads in bad company: impatient callers, forks, busy threads, odd servers and disks."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from raw_server import answer, raw_server
from support import KEY, names, on_socket, result_of, until

from modelmax_async import (
    AsyncQueueClient,
    AuthenticationError,
    ClientStateError,
    ConfigurationError,
    DownloadError,
    InvalidResponseError,
    ModelMaxError,
    RetryPolicy,
    SQLiteLedger,
    Video,
)
from modelmax_async._download import directory, part_file
from modelmax_async._download.names import ResumeInfo
from modelmax_async._download.part_file import lock_part
from modelmax_async.emulator import Content, Emulator, JobScript, sample_mp4

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SAMPLE = sample_mp4()
PATH = "/v1/queue/veo-3/requests/abc/content/0"
SOON = RetryPolicy(initial=0.001, maximum=0.002, give_up_after=0.5)


@asynccontextmanager
async def stuck_server(sent: int = 2 * MIB + MIB // 2) -> AsyncIterator[str]:
    """A server that sends the beginning of a video and then nothing more."""
    size = 3 * MIB
    head = (
        b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00" + (size - 16).to_bytes(4, "big") + b"mdat"
    )
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):  # who asks may leave
            await reader.readuntil(b"\r\n\r\n")
            first = answer(b"", 'etag: "a"', f"content-length: {size}", length=False)
            writer.write(first + head + bytes(sent - len(head)))
            await writer.drain()
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        done.set()
        server.close()


def begun(directory: Path) -> bool:
    try:
        return any(path.stat().st_size > 0 for path in directory.glob("*.part"))
    except FileNotFoundError:  # renamed between the look and the stat
        return False


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_and_closed_at_once_it_lets_go_of_its_file(
    tmp_path: Path, turns: int
) -> None:
    async with stuck_server() as url:
        client = on_socket(url)
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path))
        await until(lambda: begun(tmp_path))
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        await asyncio.wait([task])
        part = await asyncio.to_thread(lock_part, tmp_path / "reef-0.mp4")

    assert part is not None
    await asyncio.to_thread(part.close)
    assert task.cancelled() or task.exception() is not None


@pytest.mark.parametrize("turns", range(8))
async def test_claim_cancelled_and_closed_at_once_is_let_go(tmp_path: Path, turns: int) -> None:
    async with stuck_server() as url:
        client = on_socket(url)
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path / "new"))
        await until((tmp_path / "new").exists)
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        await asyncio.wait([task])
        part = await asyncio.to_thread(lock_part, tmp_path / "new" / "reef-0.mp4")

    assert part is not None
    await asyncio.to_thread(part.close)


def test_fork_does_not_keep_the_lock(tmp_path: Path) -> None:
    part = lock_part(tmp_path / "reef-0.mp4")
    assert part is not None
    part.reset(ResumeInfo("0" * 16, '"a"', None))
    part.append(b"some")
    child = os.dup(part._open())  # what a fork leaves behind: another name of the open file
    part.close()
    again = lock_part(tmp_path / "reef-0.mp4")
    os.close(child)

    assert again is not None
    assert again.size == 4
    again.close()


async def test_threads_that_all_wait_for_downloads_do_not_stop_them(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    """Forty is all the threads that anyio gives an application, for its endpoints perhaps."""
    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job())

        def endpoint(number: int) -> list[Path]:
            return anyio.from_thread.run(client.download, result, tmp_path / f"{number}")

        async with asyncio.timeout(10):
            saved = await asyncio.gather(
                *(anyio.to_thread.run_sync(endpoint, number) for number in range(40))
            )

    assert all(path.read_bytes() == SAMPLE for (path,) in saved)


async def test_files_that_wait_are_not_open(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._download.downloads._OPEN", 4)
    slow = Content(size=MIB, chunk=MIB // 4, delay=0.05)
    ids = [emulator.add_job(script=JobScript(content=slow)) for _ in range(30)]
    most = 0
    async with on_socket(url, max_in_flight=4) as client:
        results = await client.gather_results(ids)
        task = asyncio.gather(*(client.download(each, tmp_path) for each in results))
        while not task.done():
            most = max(most, sum(name.endswith(".part") for name in names(tmp_path)))
            await asyncio.sleep(0.01)

    assert len(await task) == 30
    assert 2 <= most <= 4


async def test_who_waits_for_another_writer_keeps_nobody_away(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._download.downloads._OPEN", 1)
    other = await asyncio.to_thread(lock_part, tmp_path / "held-0.mp4")
    assert other is not None
    async with on_socket(url, max_in_flight=1) as client:
        result = await client.wait_for(emulator.add_job("reef"))
        waiting = asyncio.create_task(
            client.download(result_of(result.videos[0].url, request_id="held"), tmp_path)
        )
        await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            (path,) = await client.download(result, tmp_path)
        await asyncio.to_thread(other.close)
        (late,) = await waiting

    assert path.read_bytes() == late.read_bytes() == SAMPLE


async def test_too_many_open_files_is_said(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def full(path: str | Path, flags: int, *mode: int) -> int:
        if str(path).endswith(".part"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    async with on_socket(url) as client:
        with pytest.raises(DownloadError, match=r"too many files are open.*ulimit -n"):
            await client.download(await client.wait_for(emulator.add_job()), tmp_path)


@pytest.mark.parametrize(
    "body",
    [b"The free quota of this account is used up", SAMPLE[:-500], SAMPLE[:100]],
    ids=["words that begin like a box", "a piece", "a beginning"],
)
async def test_length_that_fits_does_not_make_a_video(tmp_path: Path, body: bytes) -> None:
    came: list[bytes] = []

    async def read(client: AsyncQueueClient) -> None:
        async with client.stream(Video(PATH, 0)) as chunks:
            async for chunk in chunks:
                came.append(chunk)  # noqa: PERF401 - what came before the error counts

    async with (
        raw_server(answer(body)) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(DownloadError, match="not a complete MP4 video"):
            await client.download(result_of(PATH), tmp_path)
        with pytest.raises(DownloadError, match="not a complete MP4 video"):
            await read(client)

    assert b"".join(came) == body
    assert names(tmp_path) == []
    assert len(server.asked) == 2


@pytest.mark.parametrize("extra", [b"\0", b"\n", bytes(4), bytes(7)])
async def test_bytes_that_a_program_left_behind_the_video_are_kept(
    tmp_path: Path, extra: bytes
) -> None:
    async with (
        raw_server(answer(SAMPLE + extra)) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)
        await client.download(result_of(PATH), tmp_path)

    assert path.read_bytes() == SAMPLE + extra
    assert len(server.asked) == 1


async def test_url_that_is_not_fetched_does_not_keep_the_others_away(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        good = await client.wait_for(emulator.add_job("reef"))
        mixed = result_of(
            good.videos[0].url, "http://other.example/v.mp4", "file:///etc/passwd"
        )
        with pytest.raises(DownloadError, match=r"video 1 of reef.*over https only") as caught:
            await client.download(mixed, tmp_path)

    assert names(tmp_path) == ["reef-0.mp4"]
    assert "video 2 of reef" in caught.value.__notes__[0]


@pytest.mark.parametrize("host", ["a..b.com", "a" * 64 + ".com", ".example"])
async def test_host_that_no_name_can_be_is_an_error(tmp_path: Path, host: str) -> None:
    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(DownloadError, match="host name is malformed"):
            await client.download(result_of(f"https://{host}/v.mp4"), tmp_path)
        with pytest.raises(DownloadError, match="host name is malformed"):
            async with client.stream(Video(f"https://{host}/v.mp4", 0)):
                pass


REFUSED = answer(b'{"error": {"message": "no such key"}}', status="401 Unauthorized")


@pytest.mark.parametrize("kept", [-3, -20], ids=["a little", "half"])
async def test_refusal_whose_body_breaks_off_ends_at_once(tmp_path: Path, kept: int) -> None:
    async with (
        raw_server(REFUSED[:kept]) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(DownloadError, match="check the API key") as caught:
            await client.download(result_of(PATH), tmp_path)

    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert len(server.asked) == 1


async def test_refusal_whose_body_never_ends_ends_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._http.streaming._SOON", 0.05)
    held = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(REFUSED[:-3])
        await held.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with on_socket(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as client:
        with pytest.raises(DownloadError, match="check the API key"):
            await client.download(result_of(PATH), tmp_path)
    held.set()
    server.close()


async def test_key_that_an_error_quotes_is_not_shown(tmp_path: Path) -> None:
    body = b'{"error": {"type": "unauthorized", "message": "no key: %s"}}' % KEY.encode()
    async with (
        raw_server(answer(body, status="401 Unauthorized")) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(DownloadError, match=r"no key: sk-\.\.\.") as caught:
            await client.download(result_of(PATH), tmp_path)

    assert KEY not in f"{caught.value} {caught.value.__cause__} {caught.value.__cause__!r}"


SECRET = "sk-ab/cd+efgh12"
WRONG = {"error": {"type": "x", "message": f"bad key {SECRET}"}}
FAILED = {"error": f"bad key {SECRET}", "status": "FAILED", "request_id": "x"}
DONE = answer(b'{"status": "COMPLETED", "request_id": "x"}')
QUOTES = {
    "refusal": (answer(json.dumps(WRONG).encode(), status="401 Unauthorized"),),
    "packed": (
        answer(
            gzip.compress(json.dumps(WRONG).encode(), mtime=0),
            "content-encoding: gzip",
            status="401 Unauthorized",
        ),
    ),
    "escaped": (
        answer(json.dumps(WRONG).replace("/", "\\/").encode(), status="401 Unauthorized"),
    ),
    "failed": (answer(json.dumps(FAILED).encode()),),
    "failed result": (DONE, answer(json.dumps(FAILED).encode())),
    "redirect": (answer(b"", f"location: https://other/?key={SECRET}", status="302 Found"),),
    "nonsense": (f"Bearer {SECRET} bad\r\n\r\n".encode(),),
    "nonsense result": (DONE, f"Bearer {SECRET} bad\r\n\r\n".encode()),
}


@pytest.mark.parametrize("replies", QUOTES.values(), ids=QUOTES)
async def test_key_that_an_answer_quotes_is_shown_and_stored_nowhere(
    replies: tuple[bytes, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []
    async with (
        raw_server(*replies) as server,
        on_socket(
            f"http://127.0.0.1:{server.port}",
            api_key=SECRET,
            retry=SOON,
            hooks=[seen.append],
            ledger=SQLiteLedger(tmp_path / "runs.db"),
        ) as client,
    ):
        with pytest.raises(ModelMaxError) as caught:
            await client.wait_for("x")

    error = caught.value
    shown = f"{error} {error!r} {vars(error)} {error.__cause__} {seen} {caplog.text}"
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert server.asked[0]["authorization"] == f"Bearer {SECRET}"
    for secret in (SECRET, SECRET.replace("/", "\\/")):
        assert secret not in shown
        assert secret.encode() not in stored


async def test_paid_answer_that_quotes_the_key_stays_as_it_came() -> None:
    paid = json.dumps({"status": "COMPLETED", "data": [], "for": SECRET}).encode()
    async with (
        raw_server(DONE, answer(paid)) as server,
        on_socket(f"http://127.0.0.1:{server.port}", api_key=SECRET) as client,
    ):
        with pytest.raises(InvalidResponseError) as caught:
            await client.wait_for("x")

    assert caught.value.body == paid


async def test_key_in_a_header_of_a_video_is_not_shown(tmp_path: Path) -> None:
    async with (
        raw_server(answer(SAMPLE, f"content-encoding: {KEY}")) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(DownloadError, match=r"Content-Encoding: sk-\.\.\."):
            await client.download(result_of(PATH), tmp_path)


async def test_part_that_was_removed_is_not_named(tmp_path: Path) -> None:
    async with stuck_server() as url, on_socket(url, timeout=0.3, retry=SOON) as client:
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path))
        await until(lambda: begun(tmp_path))
        for path in tmp_path.glob("*.part"):
            path.unlink()
        with pytest.raises(DownloadError) as caught:
            await task

    assert caught.value.part is None
    assert names(tmp_path) == []


async def test_file_moved_away_at_the_end_is_said(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    videos = tmp_path / "videos"
    real = directory.is_same_file

    def moved(path: Path, number: int) -> bool:
        if path.exists() and path.stat().st_size == len(SAMPLE):
            shutil.rmtree(videos)
        return real(path, number)

    monkeypatch.setattr(part_file, "is_same_file", moved)
    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job())
        with pytest.raises(DownloadError, match=r"moved or removed.*call download\(\) again"):
            await client.download(result, videos)

    assert names(tmp_path) == []


async def test_directory_is_where_it_was_when_it_was_named(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Content(size=5 * MIB, chunk=MIB, delay=0.05)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job("reef", script=JobScript(content=slow)))
        task = asyncio.create_task(client.download(result, "videos"))
        await until(lambda: (tmp_path / "videos").exists() and begun(tmp_path / "videos"))
        monkeypatch.chdir(tmp_path / "elsewhere")
        (path,) = await task

    assert path == Path("videos", "reef-0.mp4")
    assert names(tmp_path / "videos") == ["reef-0.mp4"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_file_system_without_locks_is_said_and_left_clean(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def without(_: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(part_file, "try_lock", without)
    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job("reef"))
        with pytest.raises(DownloadError, match="cannot be locked"):
            await client.download(result, tmp_path)
        assert names(tmp_path) == []
        (tmp_path / "reef-0.mp4.part").touch()
        with pytest.raises(DownloadError, match="cannot be locked"):
            await client.download(result, tmp_path)

    assert names(tmp_path) == ["reef-0.mp4.part"]  # another's: who made it may be at work


def test_directory_that_vanishes_is_no_quicker_writer(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lock_part(tmp_path / "gone" / "reef-0.mp4")


def test_directory_that_vanishes_behind_the_look_is_no_quicker_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "find_part", lambda _: None)

    with pytest.raises(FileNotFoundError):
        lock_part(tmp_path / "gone" / "reef-0.mp4")


async def test_body_that_a_hook_has_read_is_saved(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    async with (
        httpx.AsyncClient(event_hooks={"response": [read]}) as inner,
        on_socket(url, http_client=inner) as client,
    ):
        (path,) = await client.download(await client.wait_for(emulator.add_job()), tmp_path)

    assert path.read_bytes() == SAMPLE


async def test_packed_body_that_a_hook_has_read_is_saved(tmp_path: Path) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    packed = answer(gzip.compress(SAMPLE, mtime=0), "content-encoding: gzip")
    async with (
        raw_server(packed) as server,
        httpx.AsyncClient(event_hooks={"response": [read]}) as inner,
        on_socket(f"http://127.0.0.1:{server.port}", http_client=inner) as client,
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert path.read_bytes() == SAMPLE


async def test_body_that_a_hook_took_away_is_an_error(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async def take(response: httpx.Response) -> None:
        async for _ in response.aiter_raw():
            pass

    content = Content(size=MIB)
    async with (
        httpx.AsyncClient(event_hooks={"response": [take]}) as inner,
        on_socket(url) as client,
        on_socket(url, http_client=inner, retry=SOON) as hooked,
    ):
        result = await client.wait_for(emulator.add_job(script=JobScript(content=content)))
        with pytest.raises(DownloadError, match="ResponseNotRead"):
            await hooked.download(result, tmp_path)


async def test_stream_that_nobody_reads_leaves_a_slot_for_calls(
    emulator: Emulator, url: str
) -> None:
    long = Content(size=8 * MIB)
    async with on_socket(url, max_in_flight=1) as client:
        result = await client.wait_for(emulator.add_job(script=JobScript(content=long)))
        async with client.stream(result.videos[0]):
            async with asyncio.timeout(5):
                other = await client.wait_for(emulator.add_job())

    assert emulator.billed[other.request_id] == 1


@pytest.mark.parametrize("location", ["data:video/mp4,x", "mailto:a@example.com"])
async def test_redirect_to_what_is_no_address_ends_at_once(
    tmp_path: Path, location: str
) -> None:
    there = answer(b"", f"location: {location}", status="302 Found")
    async with (
        raw_server(there) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(DownloadError, match="must start with https"):
            await client.download(result_of(PATH), tmp_path)

    assert len(server.asked) == 1


async def test_callback_that_would_have_to_be_awaited_is_refused(
    client_of_nothing: AsyncQueueClient, tmp_path: Path
) -> None:
    async def report(_: int, __: int | None) -> None: ...

    with pytest.raises(ValueError, match="plain function"):
        await client_of_nothing.download(result_of(PATH), tmp_path, on_progress=report)


PROXIES = pytest.mark.parametrize(
    ("proxy", "problem"), [("socks5://h:1", "socksio"), ("socks4://h:1", "scheme")]
)


@PROXIES
async def test_proxy_that_cannot_be_used_is_said_before_any_call(
    proxy: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)

    with pytest.raises(ConfigurationError, match=f"proxy that the environment.*{problem}"):
        on_socket("http://127.0.0.1:9")


@PROXIES
async def test_proxy_for_other_hosts_that_cannot_be_used_is_said(
    proxy: str, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("https_proxy", proxy)

    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(ConfigurationError, match=problem):
            await client.download(result_of("https://192.0.2.256.example/v"), tmp_path)
        with pytest.raises(ConfigurationError, match=problem):
            async with client.stream(Video("https://192.0.2.256.example/v", 0)):
                pass


async def test_closing_does_not_wait_twice_for_a_disk_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._download.downloads._GRACE", 0.1)
    begun, answers = threading.Event(), threading.Event()
    real = os.write

    def hang(number: int, data: bytes) -> int:
        begun.set()
        answers.wait(10)
        return real(number, data)

    async with stuck_server() as url:
        client = on_socket(url)
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", hang)
            await asyncio.to_thread(begun.wait, 5)
            async with asyncio.timeout(3):  # less than the five seconds of other tasks
                await client.aclose()
        answers.set()
        with pytest.raises(ClientStateError):
            await task
        part = await asyncio.to_thread(lock_part, tmp_path / "reef-0.mp4")

    assert part is not None
    await asyncio.to_thread(part.close)


@pytest.mark.parametrize("turns", range(8))
def test_loop_that_ends_in_a_cancelled_download_keeps_no_lock(
    tmp_path: Path, turns: int
) -> None:
    """A program that runs a loop for each job, and does not close its client."""

    async def cancelled() -> None:
        async with stuck_server() as url:
            task = asyncio.create_task(on_socket(url).download(result_of(PATH), tmp_path))
            await until(lambda: begun(tmp_path))
            task.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)

    asyncio.run(cancelled())
    for _ in range(200):
        part = lock_part(tmp_path / "reef-0.mp4")
        if part is not None:
            break
        time.sleep(0.01)

    assert part is not None
    part.close()


@pytest.fixture
async def client_of_nothing() -> AsyncIterator[AsyncQueueClient]:
    """A client whose server is not there."""
    async with on_socket("http://127.0.0.1:9") as client:
        yield client
