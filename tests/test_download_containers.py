"""Videos of other containers: saved with the suffix of their type, found again and resumed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from download_support import (
    DIGEST,
    MIB,
    PARTIAL,
    PATH,
    REEF,
    SAMPLE,
    WEBM,
    data_url,
    ready,
    url_of,
    webm,
)
from raw_server import answer, raw_server
from support import names, on_socket, result_of, until

from modelmax_async import DownloadError, Video
from modelmax_async._download.containers import is_error_page, media_type, suffix_of
from modelmax_async._download.part_names import ResumeInfo, part_name, source_digest
from modelmax_async.emulator import Content, Emulator
from modelmax_async.events import Event, VideoSaved

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("video/mp4", "mp4"),
        ("VIDEO/WebM; codecs=vp9", "webm"),
        (" video/quicktime ", "mov"),
        ("video/x-matroska", "mkv"),
        ("video/x-foo", "video"),
        ("video/../../evil", None),
        ("video/", None),
        ("video/mp4, text/html", None),
        ("audio/mp4", None),
        ("application/octet-stream", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_suffix_is_taken_from_a_list(kind: str, expected: str | None) -> None:
    assert expected == suffix_of(media_type(kind))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/html; charset=utf-8", True),
        ("Application/JSON", True),
        ("application/problem+json", True),
        ("application/xhtml+xml", True),
        ("text/xml", True),
        ("text/plain", False),
        ("application/octet-stream", False),
        ("video/mp4", False),
        ("", False),
    ],
)
def test_error_page_is_recognised_by_its_type(kind: str, *, expected: bool) -> None:
    assert expected == is_error_page(media_type(kind))


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
async def test_declared_video_of_announced_length_is_saved_whatever_its_container(
    emulator: Emulator, url: str, tmp_path: Path, kind: str, body: bytes, *, suffix: str
) -> None:
    seen: list[Event] = []
    async with on_socket(url, hooks=[seen.append]) as client:
        result = await ready(client, emulator, Content(body=body, content_type=kind))
        (path,) = await client.download(result, tmp_path)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    saved = [event for event in seen if isinstance(event, VideoSaved)]

    assert tmp_path / f"reef-{DIGEST}-0.{suffix}" == path
    assert body == path.read_bytes() == streamed
    assert [path.name] == names(tmp_path)
    assert [(str(path), len(body))] == [(event.path, event.size) for event in saved]


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
    assert 2 == emulator.contents["reef"]
    assert [] == names(tmp_path)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<html>try later</html>", b'\n {"error": "no such video"}']
)
async def test_text_declared_as_a_video_is_not_saved(tmp_path: Path, body: bytes) -> None:
    page = answer(body, "content-type: video/webm", 'etag: "a"')
    async with raw_server(page) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="text or empty, not a video"):
            await client.download(result_of(PATH), tmp_path)

    assert 1 == len(server.asked)
    assert [] == names(tmp_path)


async def test_text_declared_as_a_video_is_not_streamed(tmp_path: Path) -> None:
    page = answer(b"<html>try later</html>", "content-type: video/webm")
    async with raw_server(page) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="text or empty, not a video"):
            async with client.stream(Video(PATH, 0)):
                pytest.fail("the stream was opened")

    assert 1 == len(server.asked)


@pytest.mark.parametrize(
    ("body", "says"), [(WEBM, "not an MP4"), (SAMPLE[:-500], "middle of the video")]
)
@pytest.mark.parametrize("kind", ["video/webm", "video/mp4"])
async def test_body_without_a_length_must_be_a_complete_mp4(
    emulator: Emulator, url: str, tmp_path: Path, kind: str, body: bytes, *, says: str
) -> None:
    content = Content(body=body, content_type=kind, length=False)
    async with on_socket(url) as client:
        with pytest.raises(DownloadError, match=says):
            await client.download(await ready(client, emulator, content), tmp_path)

    assert [] == names(tmp_path)


async def test_complete_mp4_without_a_length_is_saved_whatever_its_type(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(content_type="video/webm", length=False)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    assert tmp_path / REEF == path
    assert SAMPLE == path.read_bytes()


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
async def test_body_of_an_unknown_type_must_be_a_complete_mp4(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    replies = [answer(body, *fields) for body in (WEBM, SAMPLE[:-500], SAMPLE)]
    async with raw_server(*replies) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="not an MP4 video"):
            await client.download(result_of(PATH), tmp_path)
        with pytest.raises(DownloadError, match="not a complete MP4 video"):
            await client.download(result_of(PATH), tmp_path)
        left = names(tmp_path)
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert [] == left
    assert tmp_path / REEF == path
    assert SAMPLE == path.read_bytes()


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
    assert 1 == kept
    assert [(len(WEBM), len(WEBM))] == seen
    assert 2 == emulator.contents["reef"]
    assert [first[0].name] == names(tmp_path)
    assert WEBM == first[0].read_bytes()


async def test_incomplete_declared_mp4_is_fetched_again_and_kept_if_that_fails(
    tmp_path: Path,
) -> None:
    """The saved file looks truncated."""
    odd = SAMPLE[:-500]
    replies = [answer(odd, "content-type: video/mp4"), answer(b"", status="410 Gone")]
    async with raw_server(*replies) as server, on_socket(url_of(server)) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)
        with pytest.raises(DownloadError, match="410"):
            await client.download(result_of(PATH), tmp_path)

    assert 2 == len(server.asked)
    assert odd == path.read_bytes()
    assert [REEF] == names(tmp_path)


@pytest.mark.parametrize("there", [b"", b"<html>", bytes(5000), SAMPLE[:-1]])
@pytest.mark.parametrize("name", [REEF, f"reef-{DIGEST}-0.webm"])
async def test_file_that_is_visibly_incomplete_is_fetched_again(
    emulator: Emulator, url: str, tmp_path: Path, name: str, there: bytes
) -> None:
    (tmp_path / name).write_bytes(there)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, webm()), tmp_path)

    assert tmp_path / f"reef-{DIGEST}-0.webm" == path
    assert WEBM == path.read_bytes()
    assert 1 == emulator.contents["reef"]


async def test_other_files_are_not_mistaken_for_the_video(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    others = [
        f"reef-{DIGEST}-0.exe",
        f"reef-{DIGEST}-0.jpg",
        f"reef-{DIGEST}-0.txt",
        f"reef-{DIGEST}-1.webm",
    ]
    for name in others:
        (tmp_path / name).write_bytes(WEBM)
    (tmp_path / f"reef-{DIGEST}-0.mov").mkdir()
    async with on_socket(url) as client:
        (path,) = await client.download(
            await ready(client, emulator, webm()), tmp_path, overwrite=True
        )

    assert 1 == emulator.contents["reef"]
    assert sorted([*others, f"reef-{DIGEST}-0.mov", path.name]) == names(tmp_path)


async def test_directory_with_the_name_of_the_video_is_an_error(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    (tmp_path / f"reef-{DIGEST}-0.webm").mkdir()
    async with on_socket(url) as client:
        result = await ready(client, emulator, webm())
        with pytest.raises(DownloadError, match="cannot be written to") as caught:
            await client.download(result, tmp_path)
        (tmp_path / f"reef-{DIGEST}-0.webm").rmdir()
        (path,) = await client.download(result, tmp_path)

    assert caught.value.part is not None
    assert 1 == emulator.contents["reef"]  # the second call found a complete .part
    assert WEBM == path.read_bytes()
    assert [f"reef-{DIGEST}-0.webm"] == names(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"), [("mp4", "webm"), ("webm", "mp4"), ("webm", "webm"), ("mov", "webm")]
)
async def test_overwriting_leaves_one_video(tmp_path: Path, old: str, new: str) -> None:
    """A later call might find the old one otherwise."""
    kind = {"mp4": "video/mp4", "webm": "video/webm"}[new]
    (tmp_path / f"reef-{DIGEST}-0.{old}").write_bytes(SAMPLE)
    refused = answer(b"", status="404 Not Found")
    fine = answer(WEBM, f"content-type: {kind}")
    async with raw_server(refused, fine) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="404"):
            await client.download(result_of(PATH), tmp_path, overwrite=True)
        kept = names(tmp_path)
        (path,) = await client.download(result_of(PATH), tmp_path, overwrite=True)
        (again,) = await client.download(result_of(PATH), tmp_path)

    assert [f"reef-{DIGEST}-0.{old}"] == kept
    assert tmp_path / f"reef-{DIGEST}-0.{new}" == path == again
    assert [path.name] == names(tmp_path)
    assert WEBM == path.read_bytes()


async def test_old_video_is_removed_after_the_new_one_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[list[str]] = []
    (tmp_path / REEF).write_bytes(SAMPLE)
    monkeypatch.setattr(
        "modelmax_async._download.part_file.sync_directory",
        lambda path: steps.append(names(path)),
    )
    async with (
        raw_server(answer(WEBM, "content-type: video/webm")) as server,
        on_socket(url_of(server)) as client,
    ):
        await client.download(result_of(PATH), tmp_path, overwrite=True)

    assert [[REEF, f"reef-{DIGEST}-0.webm"]] == steps
    assert [f"reef-{DIGEST}-0.webm"] == names(tmp_path)


async def test_interrupted_transfer_of_another_container_is_resumed(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(
        body=WEBM, content_type="video/webm", etag='"a"', cut_after=700, cut_times=2
    )
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    asked = [r.headers for r in emulator.requests if r.endpoint == "content"]

    assert tmp_path / f"reef-{DIGEST}-0.webm" == path
    assert WEBM == path.read_bytes()
    assert [None, "bytes=700-", "bytes=1400-"] == [each.get("range") for each in asked]
    assert '"a"' == asked[1]["if-range"]


async def test_cancelled_download_is_resumed_by_another_client(
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
    resumed_at = int(emulator.requests[-1].headers["range"][len("bytes=") : -1])

    assert left.startswith(f"reef-{DIGEST}-0.mp4.")
    assert left.endswith("-webm.part")
    assert size <= resumed_at < len(body)  # a thread may write on after the cancellation
    assert tmp_path / f"reef-{DIGEST}-0.webm" == path
    assert body == path.read_bytes()
    assert [path.name] == names(tmp_path)


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
async def test_part_of_another_container_is_resumed_if_it_matches(
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
        (tmp_path / part_name(REEF, resume_info)).write_bytes(data)
        (path,) = await client.download(result, tmp_path)

    asked = [r.headers.get("range") for r in emulator.requests if r.endpoint == "content"]

    assert ranges == asked
    assert tmp_path / f"reef-{DIGEST}-0.webm" == path
    assert WEBM == path.read_bytes()
    assert [path.name] == names(tmp_path)


@pytest.mark.parametrize("status", ["200 OK", PARTIAL])
async def test_error_page_does_not_discard_the_bytes_received(
    tmp_path: Path, status: str
) -> None:
    span = f"bytes 2000-{len(WEBM) - 1}/{len(WEBM)}"
    tag = 'etag: "a"'
    first = answer(WEBM, tag, "content-type: video/webm")[: 2000 - len(WEBM)]
    page = answer(b"<html>", tag, "content-type: text/html", status=status)
    rest = answer(WEBM[2000:], tag, f"content-range: {span}", status=PARTIAL)
    async with raw_server(first, page, rest) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match=r"not a video \(Content-Type") as caught:
            await client.download(result_of(PATH), tmp_path)
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert caught.value.part is not None
    assert [None, *["bytes=2000-"] * 2] == [each.get("range") for each in server.asked]
    assert tmp_path / f"reef-{DIGEST}-0.webm" == path
    assert WEBM == path.read_bytes()


@pytest.mark.parametrize("fields", [("content-type: video/mp4",), ()])
async def test_new_version_in_another_container_gets_its_suffix(
    tmp_path: Path, fields: tuple[str, ...]
) -> None:
    first = answer(WEBM, 'etag: "a"', "content-type: video/webm")[: 2000 - len(WEBM)]
    second = answer(SAMPLE, 'etag: "b"', *fields)
    async with raw_server(first, second) as server, on_socket(url_of(server)) as client:
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert tmp_path / REEF == path
    assert SAMPLE == path.read_bytes()
    assert [path.name] == names(tmp_path)


async def test_body_shorter_than_its_length_is_not_saved(tmp_path: Path) -> None:
    cut = answer(WEBM, "content-type: video/webm")[:-1]
    async with raw_server(cut) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result_of(PATH), tmp_path)

    assert 4 == len(server.asked)
    assert [] == names(tmp_path)


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

    assert tmp_path / f"reef-{DIGEST}-0.{suffix}" == path == again
    assert before.st_ino == again.stat().st_ino  # it was not written again
    assert body == path.read_bytes() == streamed
    assert [path.name] == names(tmp_path)


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
async def test_data_url_that_is_not_a_video_is_not_saved(
    tmp_path: Path, kind: str, body: bytes, says: str
) -> None:
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match=says):
            await client.download(result_of(data_url(kind, body)), tmp_path)

    assert [] == names(tmp_path)


async def test_videos_of_one_result_have_their_own_containers(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    kinds = ["video/webm", "video/mp4", "video/quicktime"]
    bodies = [WEBM, SAMPLE, SAMPLE]
    async with on_socket(url) as client:
        made = [
            await ready(
                client,
                emulator,
                Content(body=body, content_type=kind),
                request_id=f"job{index}",
            )
            for index, (kind, body) in enumerate(zip(kinds, bodies, strict=True))
        ]
        urls = [result.videos[0].url for result in made]
        mixed = result_of(*urls, data_url("video/x-matroska", WEBM))
        paths = await client.download(mixed, tmp_path)
        again = await client.download(mixed, tmp_path)

    expected = [
        f"reef-{DIGEST}-0.webm",
        f"reef-{DIGEST}-1.mp4",
        f"reef-{DIGEST}-2.mov",
        f"reef-{DIGEST}-3.mkv",
    ]

    assert [tmp_path / name for name in expected] == paths == again
    assert [*bodies, WEBM] == [path.read_bytes() for path in paths]
    assert expected == names(tmp_path)
    assert [1, 1, 1] == [emulator.contents[f"job{index}"] for index in range(3)]


@pytest.mark.parametrize("overwrite", [True, False])
async def test_two_clients_save_one_video_of_another_container(
    emulator: Emulator, url: str, tmp_path: Path, *, overwrite: bool
) -> None:
    """With overwrite, each download replaces the video of the one before."""
    body = WEBM * 50
    (tmp_path / REEF).write_bytes(SAMPLE if overwrite else b"")
    async with on_socket(url) as one, on_socket(url) as two:
        result = await ready(one, emulator, webm(body, delay=0.002))
        paths = await asyncio.gather(
            *(c.download(result, tmp_path, overwrite=overwrite) for c in (one, two, one))
        )

    assert [tmp_path / f"reef-{DIGEST}-0.webm"] * 3 == [path for (path,) in paths]
    assert (3 if overwrite else 1) == emulator.contents["reef"]
    assert body == (tmp_path / f"reef-{DIGEST}-0.webm").read_bytes()
    assert [REEF] * (not overwrite) + [f"reef-{DIGEST}-0.webm"] == names(tmp_path)
