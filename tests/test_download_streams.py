"""Streaming a video: bounded chunks, resuming, errors, and leaving early."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from download_support import (
    MIB,
    PATH,
    SAMPLE,
    WEBM,
    content_of,
    data_url,
    ready,
    url_of,
)
from raw_server import answer, raw_server
from support import on_socket

from modelmax_async import ClientStateError, DownloadError, Video, VideoStream
from modelmax_async._download.sinks import StreamSink
from modelmax_async.emulator import Content, Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio


async def read(stream: VideoStream) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_stream_yields_all_bytes_in_bounded_chunks(emulator: Emulator, url: str) -> None:
    content = Content(size=5 * MIB)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as chunks:
            await asyncio.sleep(0.2)  # a slow reader
            parts = [chunk async for chunk in chunks]

    assert content_of(content) == b"".join(parts)
    assert max(map(len, parts)) <= MIB


TYPES = [
    ("video/mp4", "video/mp4", "mp4"),
    ("VIDEO/WebM; codecs=vp9", "video/webm", "webm"),
    ("video/x-new", "video/x-new", "video"),
    ("application/octet-stream", "video/mp4", "mp4"),
    ("text/plain", "video/mp4", "mp4"),
    ("image/svg", "video/mp4", "mp4"),
    ("", "video/mp4", "mp4"),
    ("video/" + "x" * 127, "video/" + "x" * 127, "video"),
    ("video/" + "x" * 128, "video/mp4", "mp4"),
    ("video/mp4, text/html", "video/mp4", "mp4"),
]


@pytest.mark.parametrize(("declared", "shown", "suffix"), TYPES)
async def test_stream_tells_length_and_a_plain_video_type(
    declared: str, shown: str, suffix: str
) -> None:
    async with (
        raw_server(answer(SAMPLE, f"content-type: {declared}")) as server,
        on_socket(url_of(server)) as client,
        client.stream(Video(PATH, 0)) as stream,
    ):
        body = await read(stream)

    assert (len(SAMPLE), shown, suffix) == (stream.length, stream.content_type, stream.suffix)
    assert SAMPLE == body
    assert f"<VideoStream: {shown}, {len(SAMPLE)} bytes>" == repr(stream)


async def test_stream_without_an_announced_length_has_none() -> None:
    """Without a length, a video is complete only if it is an MP4, whatever its type."""
    chunked = (
        b"HTTP/1.1 200 OK\r\ncontent-type: video/webm\r\ntransfer-encoding: chunked\r\n\r\n"
        b"%x\r\n%s\r\n0\r\n\r\n" % (len(SAMPLE), SAMPLE)
    )
    async with (
        raw_server(chunked) as server,
        on_socket(url_of(server)) as client,
        client.stream(Video(PATH, 0)) as stream,
    ):
        body = b"".join([chunk async for chunk in stream])

    assert (None, "video/mp4", "mp4") == (stream.length, stream.content_type, stream.suffix)
    assert SAMPLE == body
    assert "<VideoStream: video/mp4, unknown length>" == repr(stream)


@pytest.mark.parametrize(
    ("kind", "body", "shown"),
    [
        ("video/webm", WEBM, "video/webm"),
        ("video/webm\r\nset-cookie: a=b", SAMPLE, "video/mp4"),
        ("video/webm\n", SAMPLE, "video/webm"),
    ],
)
async def test_stream_of_a_data_url_tells_its_length(
    kind: str, body: bytes, shown: str
) -> None:
    async with (
        on_socket("http://127.0.0.1:1") as client,
        client.stream(Video(data_url(kind, body), 0)) as stream,
    ):
        streamed = await read(stream)

    assert (len(body), shown) == (stream.length, stream.content_type)
    assert body == streamed


async def test_stream_that_failed_never_looks_complete(emulator: Emulator, url: str) -> None:
    content = Content(size=MIB, cut_after=300_001)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as stream:
            for _ in range(2):
                with pytest.raises(DownloadError):
                    await read(stream)


async def test_read_that_is_cancelled_loses_no_byte(emulator: Emulator, url: str) -> None:
    content = Content(size=MIB, delay=0.02)
    parts: list[bytes] = []
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as stream:
            with suppress(StopAsyncIteration):
                while True:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(0.004):
                            parts.append(await anext(stream))

    assert content_of(content) == b"".join(parts)
    assert content.total == stream.length


async def test_stream_buffers_a_bounded_number_of_chunks() -> None:
    sink = StreamSink()
    taken = 0
    with pytest.raises(TimeoutError):  # noqa: PT012 - the loop must time out
        async with asyncio.timeout(0.05):
            while taken < 100:
                await sink.write(b"x")
                taken += 1

    assert 16 == taken


async def test_interrupted_stream_is_resumed(emulator: Emulator, url: str) -> None:
    content = Content(size=MIB, etag='"a"', cut_after=300_001, cut_times=2)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    assert content_of(content) == streamed
    assert 3 == emulator.contents["reef"]


async def test_interrupted_stream_that_cannot_be_resumed_is_an_error(
    emulator: Emulator, url: str
) -> None:
    content = Content(size=MIB, cut_after=300_001)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        taken = 0
        async with client.stream(result.videos[0]) as chunks:
            with pytest.raises(DownloadError, match=r"after 300001 bytes") as caught:  # noqa: PT012 - the error follows the bytes
                async for chunk in chunks:
                    taken += len(chunk)

    assert 300_001 == taken
    assert caught.value.part is None


async def test_leaving_a_stream_early_stops_the_transfer(emulator: Emulator, url: str) -> None:
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
            assert [] == [chunk async for chunk in chunks]

    assert first
    assert 0 == emulator.in_flight


async def test_closing_the_client_ends_a_stream(emulator: Emulator, url: str) -> None:
    content = Content(size=8 * MIB, delay=0.01)
    client = on_socket(url)
    result = await ready(client, emulator, content)
    async with client.stream(result.videos[0]) as chunks:
        await anext(chunks)
        await client.aclose()
        with pytest.raises(ClientStateError):
            assert [] == [chunk async for chunk in chunks]
    with pytest.raises(ClientStateError):
        client.stream(result.videos[0])
    with pytest.raises(ClientStateError):
        await client.download(result, "never")


async def test_error_of_a_stream_is_raised_on_entering(emulator: Emulator, url: str) -> None:
    emulator.fault("content", Fault.error(401, type="unauthorized"))
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match="401"):
            async with client.stream(result.videos[0]):
                pytest.fail("the stream was opened")


async def test_unread_stream_leaves_a_slot_for_calls(emulator: Emulator, url: str) -> None:
    long = Content(size=8 * MIB)
    async with on_socket(url, max_in_flight=1) as client:
        result = await client.wait_for(emulator.add_job(script=JobScript(content=long)))
        async with client.stream(result.videos[0]):
            async with asyncio.timeout(5):
                other = await client.wait_for(emulator.add_job())

    assert 1 == emulator.billed[other.request_id]
