"""The end of a transfer: complete videos are saved, truncated ones and other bodies are not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import httpx
import pytest
from download_support import PATH, QUICK, REEF, SAMPLE, content_of, ready, url_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_server import answer, raw_server
from support import names, on_socket, result_of

from modelmax_async import AsyncQueueClient, DownloadError, Result, Video
from modelmax_async.emulator import Content, Emulator

pytestmark = pytest.mark.anyio


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
async def test_body_that_is_not_a_video_is_not_saved(
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
                assert [body] == [chunk async for chunk in chunks]

    assert [] == [name for name in names(tmp_path) if name.endswith(".mp4")]


@pytest.mark.parametrize("cut", [1, 700, 922, 930, len(SAMPLE) - 1])
async def test_truncated_video_without_a_length_is_detected(tmp_path: Path, cut: int) -> None:
    ends = answer(SAMPLE[:cut], "content-type: video/mp4", length=False)
    async with raw_server(ends) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="middle of the video"):
            await client.download(result_of(PATH), tmp_path)

    assert [] == names(tmp_path)
    assert 4 == len(server.asked)


async def test_video_delimited_by_its_connection_is_saved(tmp_path: Path) -> None:
    cut = answer(SAMPLE[:2000], "content-type: video/mp4", length=False)
    whole = answer(SAMPLE, "content-type: video/mp4", length=False)
    async with raw_server(cut, whole) as server, on_socket(url_of(server)) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert SAMPLE == path.read_bytes()
    assert "identity" == server.asked[0]["accept-encoding"]


@pytest.mark.parametrize("extra", [-1, 1])
async def test_content_length_is_checked_even_if_the_transport_does_not(
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

    assert [] == names(tmp_path)


@pytest.mark.parametrize(
    "body",
    [b"The free quota of this account is used up", SAMPLE[:-500], SAMPLE[:100]],
    ids=["words that begin like a box", "a piece", "a beginning"],
)
async def test_body_of_the_announced_length_must_be_a_video(
    tmp_path: Path, body: bytes
) -> None:
    received: list[bytes] = []

    async def read(client: AsyncQueueClient) -> None:
        async with client.stream(Video(PATH, 0)) as chunks:
            async for chunk in chunks:
                received.append(chunk)  # noqa: PERF401 - chunks before the error count

    async with raw_server(answer(body)) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="not a complete MP4 video"):
            await client.download(result_of(PATH), tmp_path)
        with pytest.raises(DownloadError, match="not a complete MP4 video"):
            await read(client)

    assert body == b"".join(received)
    assert [] == names(tmp_path)
    assert 2 == len(server.asked)


@pytest.mark.parametrize("extra", [b"\0", b"\n", bytes(4), bytes(7)])
async def test_trailing_bytes_after_the_last_box_are_kept(tmp_path: Path, extra: bytes) -> None:
    async with (
        raw_server(answer(SAMPLE + extra)) as server,
        on_socket(url_of(server)) as client,
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)
        await client.download(result_of(PATH), tmp_path)

    assert SAMPLE + extra == path.read_bytes()
    assert 1 == len(server.asked)


EARLIER = "last-modified: Mon, 01 Jan 2024 00:00:00 GMT"
LATER = "date: Tue, 02 Jan 2024 00:00:00 GMT"
RESULT = Result("reef", "veo-3", (Video(PATH, 0),))


async def test_missing_index_is_detected_without_a_length(tmp_path: Path) -> None:
    late = SAMPLE[:32] + SAMPLE[930:] + SAMPLE[32:922]  # ftyp, mdat, moov
    cut = answer(late[: len(late) - 890], length=False)
    async with (
        raw_server(cut, answer(late, length=False)) as server,
        on_socket(url_of(server), retry=QUICK) as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert late == path.read_bytes()
    assert 2 == len(server.asked)


def read(directory: str) -> bytes:
    return Path(directory, REEF).read_bytes()


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(0, len(SAMPLE) - 1), max_size=4),
    fields=st.sampled_from([(), ('etag: "a"',), (EARLIER, LATER)]),
)
async def test_body_truncated_at_any_byte_gives_no_broken_file(
    cuts: list[int], fields: tuple[str, ...]
) -> None:
    answers = [answer(SAMPLE[:cut], *fields, length=False) for cut in [*cuts, len(SAMPLE)]]
    with tempfile.TemporaryDirectory() as name:
        async with raw_server(*answers) as server:
            base = url_of(server)
            async with on_socket(base, retry=QUICK) as client:
                try:
                    await client.download(RESULT, name)
                except DownloadError:
                    await client.download(RESULT, name)

        assert [REEF] == names(Path(name))
        assert SAMPLE == read(name)


CONTENTS = st.builds(
    Content,
    size=st.integers(32, 6000) | st.just(len(SAMPLE)),
    etag=st.sampled_from([None, '"a"', 'W/"a"']),
    etag_changes=st.booleans(),
    ranges=st.sampled_from(
        ["honour", "ignore", "wrong-offset", "wrong-total", "416", "no-content-range"]
    ),
    length=st.booleans(),
    cut_after=st.none() | st.integers(0, 6000),
    cut_times=st.integers(1, 7),
    chunk=st.sampled_from([97, 1000, 65536]),
)


async def attempt(
    client: AsyncQueueClient, result: Result, directory: Path
) -> tuple[list[str], list[str]]:
    """Download once, and return the names in the directory, and those that should be there."""
    try:
        (path,) = await client.download(result, directory)
    except DownloadError as exc:
        return names(directory), [Path(exc.part).name] if exc.part else []
    return names(directory), [path.name]


@pytest.mark.untraced
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=CONTENTS)
async def test_connection_dropped_at_any_byte_leaves_the_whole_file_or_none(
    content: Content,
) -> None:
    emulator = Emulator()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with emulator.serve() as url, on_socket(url, retry=QUICK) as client:
            result = await ready(client, emulator, content)
            left = [await attempt(client, result, directory) for _ in range(3)]
        calls = emulator.contents["reef"]
        wholes = [content_of(content, v * content.etag_changes) for v in range(calls + 1)]

        assert all(found == told for found, told in left)
        assert [REEF] == names(directory)
        assert (directory / REEF).read_bytes() in wholes
