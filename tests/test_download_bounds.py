"""The bounds of a download: the size of a video, the room on the disk, and many tiny chunks."""

from __future__ import annotations

import asyncio
import errno
import gc
import shutil
import tracemalloc
from collections import namedtuple
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from download_support import (
    MIB,
    PATH,
    SAMPLE,
    content_of,
    data_url,
    leave_part,
    ready,
    resume_info_for,
    url_of,
)
from raw_server import answer, raw_server
from support import names, on_socket, result_of

from modelmax_async import AsyncQueueClient, DownloadError, Video
from modelmax_async._download.room import RESERVE
from modelmax_async._download.sinks import FileSink
from modelmax_async.emulator import Content, Emulator

pytestmark = pytest.mark.anyio

Usage = namedtuple("Usage", ["total", "used", "free"])  # noqa: PYI024 - as that of shutil
GIB = 1024 * MIB
LARGER = r"call download\(\) with a larger max_bytes"


class Endless(httpx.AsyncByteStream):
    """A body that begins like a video and never ends; it counts the bytes it has sent."""

    def __init__(self) -> None:
        self.sent = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield SAMPLE[:32] + b"\0\0\0\0mdat"  # a box that extends to the end of the file
        while self.sent < GIB:
            self.sent += MIB
            yield bytes(MIB)


class TinyChunks(httpx.AsyncByteStream):
    """A body in chunks of one byte, all of which are there at once."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(len(SAMPLE)):
            yield SAMPLE[at : at + 1]


def serving(stream: httpx.AsyncByteStream, **headers: str) -> AsyncQueueClient:
    """A client of a server that answers with this body."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, stream=stream, headers=fields)
    )
    return on_socket("http://127.0.0.1:1", http_client=transport)


@pytest.mark.parametrize("announced", [str(5 * GIB), str(10**19)])
async def test_video_that_announces_too_many_bytes_is_refused_at_once(
    tmp_path: Path, announced: str
) -> None:
    """By default, a video has at most 4 GiB."""
    endless = Endless()
    async with serving(endless, content_length=announced) as client:
        with pytest.raises(DownloadError, match=rf"{announced} bytes.*{4 * GIB}") as caught:
            await client.download(result_of(PATH), tmp_path)

    assert "call download() with a larger max_bytes" in str(caught.value)
    assert 0 == endless.sent
    assert [] == names(tmp_path)


async def test_endless_body_is_broken_off_at_the_bound(tmp_path: Path) -> None:
    endless = Endless()
    async with serving(endless) as client:
        with pytest.raises(DownloadError, match=f"more than the {5 * MIB} bytes.*{LARGER}"):
            await client.download(result_of(PATH), tmp_path, max_bytes=5 * MIB)

    assert 5 * MIB == endless.sent
    assert [] == names(tmp_path)


@pytest.mark.parametrize("length", [True, False])
async def test_larger_bound_resumes_what_the_smaller_one_refused(
    emulator: Emulator, url: str, tmp_path: Path, *, length: bool
) -> None:
    content = Content(size=3 * MIB, etag='"a"', length=length, chunk=MIB // 2)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError, match=LARGER) as caught:
            await client.download(result, tmp_path, max_bytes=2 * MIB)
        left = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
        (path,) = await client.download(result, tmp_path, max_bytes=content.total)

    asked = [r.headers.get("range") for r in emulator.requests if r.endpoint == "content"]
    kept = sum(left.values())

    assert content_of(content) == path.read_bytes()
    assert (caught.value.part is None) == (not left) == length
    assert [None, f"bytes={kept}-" if kept else None] == asked
    assert kept <= 2 * MIB


async def test_rest_of_a_video_that_is_too_large_is_not_requested_again(tmp_path: Path) -> None:
    """The server told its length only with the second piece."""
    rest = answer(
        SAMPLE[2000:],
        'etag: "a"',
        f"content-range: bytes 2000-{len(SAMPLE) - 1}/{len(SAMPLE)}",
        status="206 Partial Content",
    )
    async with raw_server(rest) as server, on_socket(url_of(server)) as client:
        info = resume_info_for(url_of(server) + PATH, total=None)
        part = leave_part(tmp_path, info, SAMPLE[:2000])
        with pytest.raises(DownloadError, match=f"{len(SAMPLE)} bytes.*allows 3000"):
            await client.download(result_of(PATH), tmp_path, max_bytes=3000)
        left = part.read_bytes()
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert SAMPLE[:2000] == left
    assert SAMPLE == path.read_bytes()


async def test_video_in_a_data_url_is_bounded(tmp_path: Path) -> None:
    result = result_of(data_url("video/mp4", SAMPLE))
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match=LARGER):
            await client.download(result, tmp_path, max_bytes=len(SAMPLE) - 1)
        (path,) = await client.download(result, tmp_path, max_bytes=len(SAMPLE))

    assert SAMPLE == path.read_bytes()


@pytest.mark.parametrize("bound", [0, -1, 1.5, True, None, "4 GiB", float("inf")])
async def test_bound_must_be_a_positive_integer(tmp_path: Path, bound: Any) -> None:
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(ValueError, match="max_bytes must be a positive integer, got"):
            await client.download(result_of(PATH), tmp_path / "never", max_bytes=bound)

    assert [] == names(tmp_path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What the system says about the disk: change it to fill the disk."""
    said = {"total": 100 * GIB, "used": 0, "free": 100 * GIB}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(**said))
    return said


async def test_video_that_does_not_fit_on_the_disk_is_refused_before_a_byte_is_written(
    tmp_path: Path, disk: dict[str, int]
) -> None:
    disk["free"] = 2 * GIB
    endless = Endless()
    async with serving(endless, content_length=str(3 * GIB)) as client:
        with pytest.raises(DownloadError, match=r"disk is full.*free some space") as caught:
            await client.download(result_of(PATH), tmp_path)

    assert isinstance(caught.value.__cause__, OSError)
    assert errno.ENOSPC == caught.value.__cause__.errno
    assert 0 == endless.sent
    assert [] == names(tmp_path)


async def test_body_without_a_length_does_not_fill_the_disk(
    tmp_path: Path, disk: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_: Path) -> Usage:
        disk["free"] -= 2 * MIB
        return Usage(**disk)

    disk["free"] = RESERVE + 9 * MIB
    monkeypatch.setattr(shutil, "disk_usage", fill)
    endless = Endless()
    async with serving(endless) as client:
        with pytest.raises(DownloadError, match=f"disk is full.*{RESERVE} are kept free"):
            await client.download(result_of(PATH), tmp_path)

    assert endless.sent <= 12 * MIB
    assert [] == names(tmp_path)


@pytest.mark.parametrize(("total", "requests"), [(len(SAMPLE), 0), (None, 1)])
async def test_part_of_a_video_that_does_not_fit_is_kept(
    tmp_path: Path, disk: dict[str, int], total: int | None, requests: int
) -> None:
    async with raw_server(answer(SAMPLE, 'etag: "b"')) as server:
        info = resume_info_for(url_of(server) + PATH, total=total)
        part = leave_part(tmp_path, info, SAMPLE[:2000])
        disk |= {"free": RESERVE + 1000}
        async with on_socket(url_of(server)) as client:
            with pytest.raises(DownloadError, match="disk is full") as caught:
                await client.download(result_of(PATH), tmp_path)
            asked, left = len(server.asked), part.read_bytes()
            disk |= {"free": RESERVE + len(SAMPLE)}
            (path,) = await client.download(result_of(PATH), tmp_path)

    assert requests == asked
    assert str(part) == caught.value.part
    assert SAMPLE[:2000] == left
    assert SAMPLE == path.read_bytes()


@pytest.mark.parametrize(
    "tiny",
    [{"total": 0, "free": 0}, {"total": 100_000, "free": 10_000}],
    ids=["unknown", "small"],
)
async def test_small_disks_and_those_that_tell_no_size_are_used(
    tmp_path: Path, disk: dict[str, int], tiny: dict[str, int]
) -> None:
    disk |= tiny
    async with raw_server(answer(SAMPLE)) as server, on_socket(url_of(server)) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert SAMPLE == path.read_bytes()


@pytest.mark.parametrize("streamed", [True, False])
async def test_tiny_chunks_do_not_hold_up_the_event_loop(
    tmp_path: Path, *, streamed: bool
) -> None:
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with serving(TinyChunks(), content_length=str(len(SAMPLE))) as client:
        beating = asyncio.create_task(beat())
        if streamed:
            async with client.stream(Video(PATH, 0)) as chunks:
                body = b"".join([chunk async for chunk in chunks])
        else:
            (path,) = await client.download(result_of(PATH), tmp_path)
            body = path.read_bytes()
        beating.cancel()

    assert SAMPLE == body
    assert turns >= len(SAMPLE) // 16


def movie(body: bytes) -> bytes:
    """A complete MP4 of a few bytes, if ``body`` is a box."""
    return b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08moov" + body


@pytest.mark.parametrize("whole", [True, False])
async def test_hundreds_of_small_videos_take_little_memory(
    tmp_path: Path, *, whole: bool
) -> None:
    """Those that fail too, even before the garbage collector has run."""
    body = movie(b"\0\0\0\x0cmdat1234" if whole else b"\0\0\0\x0dmdat1234")
    result = result_of(*[data_url("video/mp4", body)] * 300)
    gc.disable()
    tracemalloc.start()
    try:
        async with on_socket("http://127.0.0.1:1") as client:
            with nullcontext() if whole else pytest.raises(DownloadError, match="complete"):
                await client.download(result, tmp_path)
            peak = tracemalloc.get_traced_memory()[1]
            left = [each for each in gc.get_objects() if type(each) is FileSink]
    finally:
        tracemalloc.stop()
        gc.enable()

    assert (300 if whole else 0) == len(names(tmp_path))
    assert [] == left
    assert peak < 16 * MIB
