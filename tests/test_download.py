"""Saving the videos of a result: files, progress, names, open files, parallel clients."""

from __future__ import annotations

import asyncio
import gzip
import os
import sys
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio.from_thread
import anyio.to_thread
import httpx
import pytest
from download_support import (
    DIGEST,
    MIB,
    PATH,
    REEF,
    SAMPLE,
    SOON,
    WEBM,
    begun,
    content_of,
    data_url,
    ready,
    url_of,
    webm,
)
from raw_server import answer, raw_server
from support import KEY, names, on_socket, result_of, until

from modelmax_async import AsyncQueueClient, AuthenticationError, DownloadError, Result, Video
from modelmax_async._download import read_template
from modelmax_async._http import HTTPClient
from modelmax_async.emulator import Content, Emulator, Fault, JobScript
from modelmax_async.events import Event, VideoSaved

pytestmark = pytest.mark.anyio


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


async def test_every_video_is_saved_whole(emulator: Emulator, url: str, tmp_path: Path) -> None:
    content = Content(size=3 * MIB + 17)
    seen: list[Event] = []
    async with on_socket(url, hooks=[seen.append]) as client:
        result = await ready(client, emulator, content, videos=3)
        paths = await client.download(result, tmp_path / "new" / "videos")

    saved = [event for event in seen if isinstance(event, VideoSaved)]

    assert [
        tmp_path / "new" / "videos" / f"reef-{DIGEST}-{index}.mp4" for index in range(3)
    ] == paths
    assert all(path.read_bytes() == content_of(content) for path in paths)
    assert [path.name for path in paths] == names(paths[0].parent)
    assert {str(path) for path in paths} == {event.path for event in saved}
    assert {("reef", content.total)} == {(event.request_id, event.size) for event in saved}


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

    assert (0, None) == seen[0]
    assert (6 * MIB, 6 * MIB) == seen[-1]
    assert {None, 6 * MIB} == {expected for _, expected in seen}
    assert sorted(done for done, _ in seen) == [done for done, _ in seen]
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

    assert {None} == {expected for _, expected in seen[:-1]}
    assert (2 * MIB, 2 * MIB) == seen[-1]


async def test_complete_file_is_kept_unless_overwrite_is_set(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        (path,) = await client.download(result, tmp_path)
        await client.download(result, tmp_path, on_progress=lambda *pair: seen.append(pair))
        kept = emulator.contents["reef"]
        await client.download(result, tmp_path, overwrite=True)

    assert 1 == kept
    assert [(len(SAMPLE), len(SAMPLE))] == seen
    assert 2 == emulator.contents["reef"]
    assert SAMPLE == path.read_bytes()


@pytest.mark.parametrize("there", [b"", SAMPLE[:-1], b"<html>"])
async def test_incomplete_file_under_the_name_is_replaced(
    emulator: Emulator, url: str, tmp_path: Path, there: bytes
) -> None:
    (tmp_path / REEF).write_bytes(there)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, Content()), tmp_path)

    assert SAMPLE == path.read_bytes()


async def test_downloads_hold_half_of_the_slots_at_most(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=MIB, delay=0.005)
    async with on_socket(url, max_in_flight=4) as client:
        result = await ready(client, emulator, content, videos=4)
        task = asyncio.create_task(client.download(result, tmp_path))
        await until(lambda: emulator.in_flight >= 2)
        await asyncio.sleep(0.02)
        during = emulator.in_flight
        await client.status("reef")
        done = task.done()
        await task

    assert 2 == during
    assert not done


async def test_bad_gateway_is_retried(emulator: Emulator, url: str, tmp_path: Path) -> None:
    emulator.fault("content", Fault.error(502, retry_after="0"))
    emulator.fault("content", Fault.html(503))
    emulator.fault("content", Fault.error(429, type="rate_limit"))
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, Content()), tmp_path)

    assert SAMPLE == path.read_bytes()
    assert 4 == emulator.contents["reef"]


async def test_failure_of_one_video_does_not_stop_the_others(
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
    assert 1 == len(caught.value.__notes__)
    assert 1 == saved
    assert 5 == emulator.contents["reef"]


async def test_refused_url_does_not_stop_the_other_videos(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        good = await client.wait_for(emulator.add_job("reef"))
        mixed = result_of(
            good.videos[0].url, "http://other.example/v.mp4", "file:///etc/passwd"
        )
        with pytest.raises(DownloadError, match=r"video 1 of reef.*over https only") as caught:
            await client.download(mixed, tmp_path)

    assert [REEF] == names(tmp_path)
    assert "video 2 of reef" in caught.value.__notes__[0]


async def test_file_names_are_not_taken_from_the_server(tmp_path: Path) -> None:
    evil = answer(SAMPLE, 'content-disposition: attachment; filename="../../evil.mp4"')
    inside = tmp_path / "a" / "b"
    async with raw_server(evil) as home, on_socket(url_of(home)) as client:
        (path,) = await client.download(result_of(PATH, request_id="../../evil"), inside)

    assert inside == path.parent
    assert ["a", "a/b", f"a/b/{path.name}"] == everything(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("{model}-{id}-{index:02}", ["veo_3-reef-00.webm", "veo_3-reef-01.webm"]),
        ("{id}", ["reef.1.webm", "reef.webm"]),
    ],
)
async def test_files_are_named_after_the_template(
    emulator: Emulator, url: str, tmp_path: Path, name: str, expected: list[str]
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, webm(), videos=2)
        paths = await client.download(result, tmp_path, name=name)
        fetched = emulator.contents["reef"]
        again = await client.download(result, tmp_path, name=name)

    assert expected == names(tmp_path) == sorted(path.name for path in paths)
    assert paths == again
    assert fetched == emulator.contents["reef"]


async def test_files_are_named_after_the_key_of_the_job(tmp_path: Path) -> None:
    result = result_of(data_url("video/mp4", SAMPLE))
    async with on_socket("http://127.0.0.1:1") as client:
        for key, name in (("Row 17", None), ("row-17", "{key}"), (None, None)):
            await client._engine.downloads.save(
                result, tmp_path, None, overwrite=False, names=read_template(name), key=key
            )

    assert [f"Row_17-{DIGEST}-0.mp4", REEF, "row-17.mp4"] == names(tmp_path)


@pytest.mark.parametrize("name", ["{index}", "../{id}", 5])
async def test_name_that_is_no_template_is_refused_before_any_io(
    tmp_path: Path, name: Any
) -> None:
    directory = tmp_path / "videos"
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="name must"):
            await client.download(result_of(PATH), directory, name=name)

    assert not directory.exists()


@pytest.mark.parametrize("urls", [(), (PATH,)])
async def test_result_made_by_the_user_needs_no_model(
    tmp_path: Path, urls: tuple[str, ...]
) -> None:
    async with (
        raw_server(answer(b"", status="404 Not Found")) as home,
        on_socket(url_of(home)) as client,
    ):
        result = Result("..", "", tuple(Video(u, 0) for u in urls))
        if not urls:
            assert [] == await client.download(result, tmp_path)
            return
        with pytest.raises(DownloadError) as caught:
            await client.download(result, tmp_path)

    assert caught.value.job is None


async def test_videos_with_the_same_index_are_refused(tmp_path: Path) -> None:
    result = Result("a", "veo-3", (Video(PATH, 0), Video(PATH, 0)))
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="the same index"):
            await client.download(result, tmp_path)


async def test_file_is_synced_before_it_is_renamed(
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

    assert ["fsync", "replace", "fsync"] == steps


async def test_relative_directory_stays_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with on_socket("http://127.0.0.1:1") as client:
        result = Result("reef", "veo-3", (Video(data_url("video/webm", WEBM), 0),))
        paths = await client.download(result, "videos")

    assert [Path("videos", f"reef-{DIGEST}-0.webm")] == paths


async def test_relative_directory_is_resolved_once(
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

    assert Path("videos", REEF) == path
    assert [REEF] == names(tmp_path / "videos")


async def test_coroutine_function_as_on_progress_is_refused(
    client_of_nothing: AsyncQueueClient, tmp_path: Path
) -> None:
    async def report(_: int, __: int | None) -> None: ...

    with pytest.raises(ValueError, match="plain function"):
        await client_of_nothing.download(result_of(PATH), tmp_path, on_progress=report)


@pytest.fixture
async def client_of_nothing() -> AsyncIterator[AsyncQueueClient]:
    """A client of a port without a server."""
    async with on_socket("http://127.0.0.1:9") as client:
        yield client


async def test_body_read_by_an_httpx_hook_is_saved(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    async with (
        httpx.AsyncClient(event_hooks={"response": [read]}) as inner,
        on_socket(url, http_client=inner) as client,
    ):
        (path,) = await client.download(await client.wait_for(emulator.add_job()), tmp_path)

    assert SAMPLE == path.read_bytes()


async def test_compressed_body_read_by_an_httpx_hook_is_saved(tmp_path: Path) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    packed = answer(gzip.compress(SAMPLE, mtime=0), "content-encoding: gzip")
    async with (
        raw_server(packed) as server,
        httpx.AsyncClient(event_hooks={"response": [read]}) as inner,
        on_socket(url_of(server), http_client=inner) as client,
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert SAMPLE == path.read_bytes()


async def test_body_consumed_by_an_httpx_hook_is_an_error(
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


async def test_callers_transport_is_not_closed(emulator: Emulator, url: str) -> None:
    settings = AsyncQueueClient(api_key=KEY, base_url=url)._engine.settings
    async with httpx.AsyncHTTPTransport() as inner:
        receiver = HTTPClient(settings, 1.0, inner).receiver
        for _ in range(2):
            async with receiver.receive(url + PATH, {}, with_key=True) as incoming:
                status = incoming.status

    assert 400 == status
    assert 2 == len(emulator.requests)


async def test_downloads_need_no_thread_of_the_application(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    """The application's endpoints hold all 40 threads of anyio."""
    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job())

        def endpoint(number: int) -> list[Path]:
            return anyio.from_thread.run(client.download, result, tmp_path / f"{number}")

        async with asyncio.timeout(10):
            saved = await asyncio.gather(
                *(anyio.to_thread.run_sync(endpoint, number) for number in range(40))
            )

    assert all(path.read_bytes() == SAMPLE for (path,) in saved)


async def test_open_files_are_bounded(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._download.open_files._OPEN", 4)
    slow = Content(size=MIB, chunk=MIB // 4, delay=0.05)
    ids = [emulator.add_job(script=JobScript(content=slow)) for _ in range(30)]
    most = 0
    async with on_socket(url, max_in_flight=4) as client:
        results = await client.gather_results(ids)
        task = asyncio.gather(*(client.download(each, tmp_path) for each in results))
        while not task.done():
            most = max(most, sum(name.endswith(".part") for name in names(tmp_path)))
            await asyncio.sleep(0.01)

    assert 30 == len(await task)
    assert 2 <= most <= 4


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


@pytest.mark.parametrize("overwrite", [True, False])
async def test_two_clients_fetch_a_video_once(
    emulator: Emulator, url: str, tmp_path: Path, *, overwrite: bool
) -> None:
    content = Content(size=4 * MIB, etag='"a"', delay=0.002)
    async with on_socket(url) as one, on_socket(url) as two:
        result = await ready(one, emulator, content)
        paths = await asyncio.gather(
            *(c.download(result, tmp_path, overwrite=overwrite) for c in (one, two, one, two))
        )

    assert 1 == len({path for (path,) in paths})
    assert content_of(content) == paths[0][0].read_bytes()
    assert (4 if overwrite else 1) == emulator.contents["reef"]
    assert [REEF] == names(tmp_path)


async def test_two_processes_fetch_a_video_once(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    body = WEBM * 400
    async with on_socket(url) as client:
        result = await ready(client, emulator, webm(body, delay=0.02))
        others = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).parent / "download_victim.py"),
                *(url, "reef", result.videos[0].url, str(tmp_path)),
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            for _ in range(2)
        ]
        told = [(await other.communicate())[0].split() for other in others]
        (path,) = await client.download(result, tmp_path)

    assert [0, 0] == [other.returncode for other in others]
    assert [b"%d" % len(body)] * 2 == [lines[-1] for lines in told]
    assert 1 == emulator.contents["reef"]
    assert tmp_path / f"reef-{DIGEST}-0.webm" == path
    assert body == path.read_bytes()
    assert [path.name] == names(tmp_path)
