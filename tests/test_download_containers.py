"""Videos that are no MP4: saved under the suffix of their type, found again, resumed, raced."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

import pytest
from raw_server import answer, raw_server
from support import names, on_socket, result_of, until

from modelmax_async import AsyncQueueClient, DownloadError, Result, Video
from modelmax_async._download import directory
from modelmax_async._download.directory import SavedVideo
from modelmax_async._download.names import ResumeInfo, part_name, source_digest
from modelmax_async.emulator import Content, Emulator, JobScript, sample_mp4
from modelmax_async.events import Event, VideoSaved

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SAMPLE = sample_mp4()
WEBM = b"\x1aE\xdf\xa3\x9fB\x86\x81\x01webm" + bytes(range(256)) * 20
PATH = "/v1/queue/veo-3/requests/abc/content/0"
PARTIAL = "206 Partial Content"


def webm(body: bytes = WEBM, *, etag: str | None = '"a"', delay: float = 0.0) -> Content:
    return Content(body=body, content_type="video/webm", etag=etag, delay=delay)


async def ready(
    client: AsyncQueueClient, emulator: Emulator, content: Content, request_id: str = "reef"
) -> Result:
    script = JobScript(content=content)
    return await client.wait_for(emulator.add_job(request_id, script=script))


def local(port: int) -> AsyncQueueClient:
    return on_socket(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("kind", "body", "suffix"),
    [
        ("video/webm", WEBM, "webm"),
        ('Video/WebM; codecs="vp9"', WEBM, "webm"),
        ("video/quicktime", SAMPLE, "mov"),
        ("video/x-matroska", WEBM, "mkv"),
        ("video/x-foo", WEBM, "video"),
        ("video/mp4", WEBM, "mp4"),
        ("video/mp4", b"none", "mp4"),
        ("video/mp4", SAMPLE[:-500], "mp4"),
        ("video/mp4", SAMPLE, "mp4"),
    ],
)
async def test_video_of_announced_length_is_saved_whatever_it_is(
    emulator: Emulator, url: str, tmp_path: Path, kind: str, body: bytes, *, suffix: str
) -> None:
    seen: list[Event] = []
    async with on_socket(url, hooks=[seen.append]) as client:
        result = await ready(client, emulator, Content(body=body, content_type=kind))
        (path,) = await client.download(result, tmp_path)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    saved = [event for event in seen if isinstance(event, VideoSaved)]
    assert path == tmp_path / f"reef-0.{suffix}"
    assert path.read_bytes() == body == streamed
    assert names(tmp_path) == [path.name]
    assert [(event.path, event.size) for event in saved] == [(str(path), len(body))]


@pytest.mark.parametrize("kind", ["text/html", "application/json", "application/problem+json"])
@pytest.mark.parametrize("body", [b"<html>try later</html>", WEBM, SAMPLE])
@pytest.mark.parametrize("length", [True, False])
async def test_error_page_is_never_saved(
    emulator: Emulator, url: str, tmp_path: Path, kind: str, body: bytes, *, length: bool
) -> None:
    content = Content(body=body, content_type=f"{kind}; charset=utf-8", length=length)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError) as caught:
            await client.download(result, tmp_path)
        with pytest.raises(DownloadError, match="not a video"):
            async with client.stream(result.videos[0]):
                pytest.fail("the stream was opened")

    assert f"the response is not a video (Content-Type: {kind})" in str(caught.value)
    assert emulator.contents["reef"] == 2
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>try later</html>", b'\n {"error": "no such video"}']
)
async def test_text_that_is_called_a_video_is_not_saved(tmp_path: Path, body: bytes) -> None:
    page = answer(body, "content-type: video/webm", 'etag: "a"')
    async with raw_server(page) as server, local(server.port) as client:
        with pytest.raises(DownloadError, match="text or empty, not a video"):
            await client.download(result_of(PATH), tmp_path)

    assert len(server.asked) == 1
    assert names(tmp_path) == []


async def test_text_that_is_called_a_video_does_not_reach_the_reader_of_a_stream(
    tmp_path: Path,
) -> None:
    page = answer(b"<html>try later</html>", "content-type: video/webm")
    async with raw_server(page) as server, local(server.port) as client:
        with pytest.raises(DownloadError, match="text or empty, not a video"):
            async with client.stream(Video(PATH, 0)):
                pytest.fail("the stream was opened")

    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("body", "says"), [(WEBM, "not an MP4"), (SAMPLE[:-500], "middle of the video")]
)
@pytest.mark.parametrize("kind", ["video/webm", "video/mp4"])
async def test_without_a_length_only_a_complete_mp4_will_do(
    emulator: Emulator, url: str, tmp_path: Path, kind: str, body: bytes, *, says: str
) -> None:
    content = Content(body=body, content_type=kind, length=False)
    async with on_socket(url) as client:
        with pytest.raises(DownloadError, match=says):
            await client.download(await ready(client, emulator, content), tmp_path)

    assert names(tmp_path) == []


async def test_without_a_length_a_complete_mp4_is_one_whatever_its_type(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(content_type="video/webm", length=False)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    assert path == tmp_path / "reef-0.mp4"
    assert path.read_bytes() == SAMPLE


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("content-type: application/octet-stream",),
        ("content-type: text/plain",),
        ("content-type: video/",),
        ("content-type: video/webm", "content-type: text/html"),
    ],
)
async def test_type_that_says_nothing_leaves_it_to_the_boxes(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    replies = [answer(body, *fields) for body in (WEBM, SAMPLE[:-500], SAMPLE)]
    async with raw_server(*replies) as server, local(server.port) as client:
        with pytest.raises(DownloadError, match="not an MP4 video"):
            await client.download(result_of(PATH), tmp_path)
        with pytest.raises(DownloadError, match="not a complete MP4 video"):
            await client.download(result_of(PATH), tmp_path)
        left = names(tmp_path)
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert left == []
    assert path == tmp_path / "reef-0.mp4"
    assert path.read_bytes() == SAMPLE


@pytest.mark.parametrize(
    "kind", ["video/webm", "video/quicktime", "video/x-matroska", "video/x-foo", "video/mp4"]
)
async def test_saved_video_is_found_and_not_fetched_again(
    emulator: Emulator, url: str, tmp_path: Path, kind: str
) -> None:
    seen: list[tuple[int, int | None]] = []
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(body=WEBM, content_type=kind))
        first = await client.download(result, tmp_path)
        again = await client.download(
            result, tmp_path, on_progress=lambda *pair: seen.append(pair)
        )
        kept = emulator.contents["reef"]
        last = await client.download(result, tmp_path, overwrite=True)

    assert first == again == last
    assert kept == 1
    assert seen == [(len(WEBM), len(WEBM))]
    assert emulator.contents["reef"] == 2
    assert names(tmp_path) == [first[0].name]
    assert first[0].read_bytes() == WEBM


async def test_odd_mp4_is_fetched_again_and_kept_where_that_fails(tmp_path: Path) -> None:
    """On the disk it looks like one that was cut off."""
    odd = SAMPLE[:-500]
    replies = [answer(odd, "content-type: video/mp4"), answer(b"", status="410 Gone")]
    async with raw_server(*replies) as server, local(server.port) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)
        with pytest.raises(DownloadError, match="410"):
            await client.download(result_of(PATH), tmp_path)

    assert len(server.asked) == 2
    assert path.read_bytes() == odd
    assert names(tmp_path) == ["reef-0.mp4"]


@pytest.mark.parametrize("there", [b"", b"<html>", bytes(5000), SAMPLE[:-1]])
@pytest.mark.parametrize("name", ["reef-0.mp4", "reef-0.webm"])
async def test_what_shows_that_it_is_no_whole_video_is_not_taken_for_one(
    emulator: Emulator, url: str, tmp_path: Path, name: str, there: bytes
) -> None:
    (tmp_path / name).write_bytes(there)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, webm()), tmp_path)

    assert path == tmp_path / "reef-0.webm"
    assert path.read_bytes() == WEBM
    assert emulator.contents["reef"] == 1


async def test_other_files_of_the_user_are_not_taken_for_the_video(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    others = ["reef-0.exe", "reef-0.jpg", "reef-0.txt", "reef-1.webm"]
    for name in others:
        (tmp_path / name).write_bytes(WEBM)
    (tmp_path / "reef-0.mov").mkdir()
    async with on_socket(url) as client:
        (path,) = await client.download(
            await ready(client, emulator, webm()), tmp_path, overwrite=True
        )

    assert emulator.contents["reef"] == 1
    assert names(tmp_path) == sorted([*others, "reef-0.mov", path.name])


async def test_directory_in_the_place_of_another_container_is_an_error(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    (tmp_path / "reef-0.webm").mkdir()
    async with on_socket(url) as client:
        result = await ready(client, emulator, webm())
        with pytest.raises(DownloadError, match="cannot be written to") as caught:
            await client.download(result, tmp_path)
        (tmp_path / "reef-0.webm").rmdir()
        (path,) = await client.download(result, tmp_path)

    assert caught.value.part is not None
    assert emulator.contents["reef"] == 1  # the second call found a whole .part
    assert path.read_bytes() == WEBM
    assert names(tmp_path) == ["reef-0.webm"]


def test_video_that_vanishes_behind_the_look_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has just replaced the MP4 by a WebM."""
    target = tmp_path / "reef-0.mp4"
    target.write_bytes(SAMPLE)
    (tmp_path / "reef-0.webm").write_bytes(WEBM)
    real = os.open

    def late(path: Path, flags: int) -> int:
        target.unlink(missing_ok=True)
        return real(path, flags)

    monkeypatch.setattr(os, "open", late)

    assert directory.find_video(target) == SavedVideo(tmp_path / "reef-0.webm", len(WEBM))


@pytest.mark.parametrize(
    ("old", "new"), [("mp4", "webm"), ("webm", "mp4"), ("webm", "webm"), ("mov", "webm")]
)
async def test_overwriting_leaves_one_video(tmp_path: Path, old: str, new: str) -> None:
    """Or a later call might find the old one."""
    kind = {"mp4": "video/mp4", "webm": "video/webm"}[new]
    (tmp_path / f"reef-0.{old}").write_bytes(SAMPLE)
    refused = answer(b"", status="404 Not Found")
    fine = answer(WEBM, f"content-type: {kind}")
    async with raw_server(refused, fine) as server, local(server.port) as client:
        with pytest.raises(DownloadError, match="404"):
            await client.download(result_of(PATH), tmp_path, overwrite=True)
        kept = names(tmp_path)
        (path,) = await client.download(result_of(PATH), tmp_path, overwrite=True)
        (again,) = await client.download(result_of(PATH), tmp_path)

    assert kept == [f"reef-0.{old}"]
    assert path == again == tmp_path / f"reef-0.{new}"
    assert names(tmp_path) == [path.name]
    assert path.read_bytes() == WEBM


async def test_old_video_goes_only_when_the_new_one_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[str]] = []
    (tmp_path / "reef-0.mp4").write_bytes(SAMPLE)
    monkeypatch.setattr(
        "modelmax_async._download.part_file.sync_directory",
        lambda path: steps.append(names(path)),
    )
    async with (
        raw_server(answer(WEBM, "content-type: video/webm")) as server,
        local(server.port) as client,
    ):
        await client.download(result_of(PATH), tmp_path, overwrite=True)

    assert steps == [["reef-0.mp4", "reef-0.webm"]]
    assert names(tmp_path) == ["reef-0.webm"]


async def test_broken_transfer_goes_on_where_it_was(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(
        body=WEBM, content_type="video/webm", etag='"a"', cut_after=700, cut_times=2
    )
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    asked = [r.headers for r in emulator.requests if r.endpoint == "content"]
    assert path == tmp_path / "reef-0.webm"
    assert path.read_bytes() == WEBM
    assert [each.get("range") for each in asked] == [None, "bytes=700-", "bytes=1400-"]
    assert asked[1]["if-range"] == '"a"'


async def test_cancelled_download_is_gone_on_with_by_another_client(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    body = WEBM * 1000
    async with on_socket(url) as one, on_socket(url) as two:
        result = await ready(one, emulator, webm(body, delay=0.001))
        task = asyncio.create_task(one.download(result, tmp_path))
        await until(lambda: [p for p in tmp_path.glob("*.part") if p.stat().st_size >= MIB])
        task.cancel()
        await asyncio.wait([task])
        (left,) = names(tmp_path)
        size = (tmp_path / left).stat().st_size
        (path,) = await two.download(result, tmp_path)

    assert left.startswith("reef-0.mp4.")
    assert left.endswith("-webm.part")
    assert emulator.requests[-1].headers["range"] == f"bytes={size}-"
    assert path == tmp_path / "reef-0.webm"
    assert path.read_bytes() == body
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("suffix", "data", "ranges"),
    [
        ("webm", WEBM[:1000], ["bytes=1000-"]),
        ("webm", WEBM[:3], ["bytes=3-"]),
        ("webm", WEBM, []),
        ("webm", b"<html>try later", [None]),
        ("webm", b"", [None]),
        (None, WEBM[:1000], [None]),
    ],
)
async def test_part_is_gone_on_with_where_it_may_be_the_video(
    emulator: Emulator,
    url: str,
    tmp_path: Path,
    suffix: str | None,
    data: bytes,
    *,
    ranges: list[str | None],
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, webm())
        source = source_digest(url + result.videos[0].url)
        resume_info = ResumeInfo(source, '"a"', len(WEBM), suffix)
        (tmp_path / part_name("reef-0.mp4", resume_info)).write_bytes(data)
        (path,) = await client.download(result, tmp_path)

    asked = [r.headers.get("range") for r in emulator.requests if r.endpoint == "content"]
    assert asked == ranges
    assert path == tmp_path / "reef-0.webm"
    assert path.read_bytes() == WEBM
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("status", ["200 OK", PARTIAL])
async def test_error_page_does_not_cost_the_bytes_that_are_there(
    tmp_path: Path, status: str
) -> None:
    span = f"bytes 2000-{len(WEBM) - 1}/{len(WEBM)}"
    tag = 'etag: "a"'
    first = answer(WEBM, tag, "content-type: video/webm")[: 2000 - len(WEBM)]
    page = answer(b"<html>", tag, "content-type: text/html", status=status)
    rest = answer(WEBM[2000:], tag, f"content-range: {span}", status=PARTIAL)
    async with raw_server(first, page, rest) as server, local(server.port) as client:
        with pytest.raises(DownloadError, match=r"not a video \(Content-Type") as caught:
            await client.download(result_of(PATH), tmp_path)
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert caught.value.part is not None
    assert [each.get("range") for each in server.asked] == [None, *["bytes=2000-"] * 2]
    assert path == tmp_path / "reef-0.webm"
    assert path.read_bytes() == WEBM


@pytest.mark.parametrize("fields", [("content-type: video/mp4",), ()])
async def test_version_that_comes_in_another_container_has_its_suffix(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    first = answer(WEBM, 'etag: "a"', "content-type: video/webm")[: 2000 - len(WEBM)]
    second = answer(SAMPLE, 'etag: "b"', *fields)
    async with raw_server(first, second) as server, local(server.port) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert path == tmp_path / "reef-0.mp4"
    assert path.read_bytes() == SAMPLE
    assert names(tmp_path) == [path.name]


async def test_length_that_is_not_reached_is_not_a_video(tmp_path: Path) -> None:
    cut = answer(WEBM, "content-type: video/webm")[:-1]
    async with raw_server(cut) as server, local(server.port) as client:
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result_of(PATH), tmp_path)

    assert len(server.asked) == 4
    assert names(tmp_path) == []


def data_url(kind: str, body: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(body).decode()}"


@pytest.mark.parametrize(
    ("kind", "body", "suffix"),
    [
        ("video/webm", WEBM, "webm"),
        ("VIDEO/webm;codecs=vp9", WEBM, "webm"),
        ("video/x-foo", WEBM, "video"),
        ("video/mp4", WEBM, "mp4"),
        ("video/quicktime", SAMPLE, "mov"),
        ("application/octet-stream", SAMPLE, "mp4"),
        ("", SAMPLE, "mp4"),
    ],
)
async def test_data_url_is_saved_with_the_suffix_of_its_type(
    tmp_path: Path, kind: str, body: bytes, suffix: str
) -> None:
    result = result_of(data_url(kind, body))
    async with on_socket("http://127.0.0.1:1") as client:
        (path,) = await client.download(result, tmp_path)
        before = path.stat()
        (again,) = await client.download(result, tmp_path)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    assert path == again == tmp_path / f"reef-0.{suffix}"
    assert before.st_ino == again.stat().st_ino  # it was not written again
    assert path.read_bytes() == body == streamed
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("kind", "body", "says"),
    [
        ("text/html", SAMPLE, r"not a video \(Content-Type: text/html\)"),
        ("application/json", b"{}", r"not a video \(Content-Type: application/json\)"),
        ("video/webm", b"<html>try later</html>", "text or empty"),
        ("video/webm", b"{}", "text or empty"),
        ("video/webm", b"", "text or empty"),
        ("video/quicktime", SAMPLE[:-1], "not a complete MP4"),
        ("application/octet-stream", WEBM, "not an MP4"),
        ("", WEBM, "not an MP4"),
    ],
)
async def test_data_url_without_a_video_is_not_saved(
    tmp_path: Path, kind: str, body: bytes, says: str
) -> None:
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match=says):
            await client.download(result_of(data_url(kind, body)), tmp_path)

    assert names(tmp_path) == []


async def test_videos_of_one_result_have_their_own_containers(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    kinds = ["video/webm", "video/mp4", "video/quicktime"]
    bodies = [WEBM, SAMPLE, SAMPLE]
    async with on_socket(url) as client:
        made = [
            await ready(client, emulator, Content(body=body, content_type=kind), f"job{index}")
            for index, (kind, body) in enumerate(zip(kinds, bodies, strict=True))
        ]
        urls = [result.videos[0].url for result in made]
        mixed = result_of(*urls, data_url("video/x-matroska", WEBM))
        paths = await client.download(mixed, tmp_path)
        again = await client.download(mixed, tmp_path)

    expected = ["reef-0.webm", "reef-1.mp4", "reef-2.mov", "reef-3.mkv"]
    assert paths == again == [tmp_path / name for name in expected]
    assert [path.read_bytes() for path in paths] == [*bodies, WEBM]
    assert names(tmp_path) == expected
    assert [emulator.contents[f"job{index}"] for index in range(3)] == [1, 1, 1]


async def test_two_processes_fetch_a_video_into_one_directory_once(
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

    assert [other.returncode for other in others] == [0, 0]
    assert [lines[-1] for lines in told] == [b"%d" % len(body)] * 2
    assert emulator.contents["reef"] == 1
    assert path == tmp_path / "reef-0.webm"
    assert path.read_bytes() == body
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("overwrite", [True, False])
async def test_two_clients_agree_on_the_container(
    emulator: Emulator, url: str, tmp_path: Path, *, overwrite: bool
) -> None:
    """Of two overwriters the second replaces what the first has saved."""
    body = WEBM * 50
    (tmp_path / "reef-0.mp4").write_bytes(SAMPLE if overwrite else b"")
    async with on_socket(url) as one, on_socket(url) as two:
        result = await ready(one, emulator, webm(body, delay=0.002))
        paths = await asyncio.gather(
            *(c.download(result, tmp_path, overwrite=overwrite) for c in (one, two, one))
        )

    assert [path for (path,) in paths] == [tmp_path / "reef-0.webm"] * 3
    assert emulator.contents["reef"] == (3 if overwrite else 1)
    assert (tmp_path / "reef-0.webm").read_bytes() == body
    assert names(tmp_path) == ["reef-0.mp4"] * (not overwrite) + ["reef-0.webm"]


async def test_relative_directory_stays_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with on_socket("http://127.0.0.1:1") as client:
        result = Result("reef", "veo-3", (Video(data_url("video/webm", WEBM), 0),))
        paths = await client.download(result, "videos")

    assert paths == [Path("videos", "reef-0.webm")]
