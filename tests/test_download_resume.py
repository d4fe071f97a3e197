"""Interrupted transfers: resumed if the server shows that the bytes match."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from download_support import (
    MIB,
    PATH,
    QUICK,
    REEF,
    SAMPLE,
    content_of,
    leave_part,
    part_of,
    ready,
    resume_info_for,
    url_of,
)
from raw_server import answer, raw_server
from support import names, on_socket, until

from modelmax_async import DownloadError, Result, Video
from modelmax_async._download.part_names import ResumeInfo
from modelmax_async.emulator import Content, Emulator, Fault
from modelmax_async.emulator._content import RangeMode

pytestmark = pytest.mark.anyio

RESULT = Result("reef", "veo-3", (Video(PATH, 0),))
LATER = "date: Tue, 02 Jan 2024 00:00:00 GMT"
EARLIER = "last-modified: Mon, 01 Jan 2024 00:00:00 GMT"


async def test_interrupted_transfer_is_resumed(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=3 * MIB, etag='"a"', cut_after=MIB + 7, cut_times=2)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    asked = [r.headers for r in emulator.requests if r.endpoint == "content"]

    assert content_of(content) == path.read_bytes()
    assert [None, f"bytes={MIB + 7}-", f"bytes={2 * MIB + 14}-"] == [
        headers.get("range") for headers in asked
    ]
    assert '"a"' == asked[1]["if-range"]


@pytest.mark.parametrize(
    "ranges", ["ignore", "wrong-offset", "wrong-total", "416", "no-content-range"]
)
async def test_transfer_starts_over_if_the_server_mishandles_ranges(
    emulator: Emulator, url: str, tmp_path: Path, ranges: RangeMode
) -> None:
    content = Content(size=5000, etag='"a"', ranges=ranges, cut_after=700)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    asked = [r.headers.get("range") for r in emulator.requests if r.endpoint == "content"]

    assert content_of(content) == path.read_bytes()
    assert [None, "bytes=700-"] == asked[:2]
    assert ([] if ranges == "ignore" else [None]) == asked[2:]


async def test_transfer_starts_over_if_the_version_changes(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=5000, etag_changes=True, cut_after=700, cut_times=2)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    assert content_of(content, 3) == path.read_bytes()


async def test_last_modified_date_is_used_as_a_validator(tmp_path: Path) -> None:
    rest = answer(
        SAMPLE[2000:],
        EARLIER,
        f"content-range: bytes 2000-{len(SAMPLE) - 1}/{len(SAMPLE)}",
        status="206 Partial Content",
    )
    first = answer(SAMPLE, EARLIER, LATER)[: 2000 - len(SAMPLE)]
    async with raw_server(first, rest) as server, on_socket(url_of(server)) as client:
        (path,) = await client.download(RESULT, tmp_path)

    assert SAMPLE == path.read_bytes()
    assert EARLIER.partition(": ")[2] == server.asked[1]["if-range"]


async def test_partial_response_without_a_validator_is_not_joined(tmp_path: Path) -> None:
    """A server that ignores ``If-Range`` may send bytes of another version."""
    changed = bytes(len(SAMPLE) - 2000)
    rest = answer(
        changed,
        f"content-range: bytes 2000-{len(SAMPLE) - 1}/{len(SAMPLE)}",
        status="206 Partial Content",
    )
    first = answer(SAMPLE, EARLIER, LATER)[: 2000 - len(SAMPLE)]
    async with (
        raw_server(first, rest, answer(SAMPLE)) as server,
        on_socket(url_of(server)) as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert SAMPLE == path.read_bytes()
    assert "range" not in server.asked[2]


@pytest.mark.parametrize("cut", [0, 3], ids=["whole", "cut off"])
async def test_partial_response_longer_than_its_range_is_not_joined(
    tmp_path: Path, cut: int
) -> None:
    body = SAMPLE[2000:2100] + bytes(500)
    sent = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    rest = answer(
        sent,
        'etag: "a"',
        "transfer-encoding: chunked",
        f"content-range: bytes 2000-2099/{len(SAMPLE)}",
        status="206 Partial Content",
        length=False,
    )
    first = answer(SAMPLE, 'etag: "a"')[: 2000 - len(SAMPLE)]
    async with (
        raw_server(first, rest[: len(rest) - cut], answer(SAMPLE)) as server,
        on_socket(url_of(server)) as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert SAMPLE == path.read_bytes()
    assert "range" not in server.asked[2]


async def test_progress_resets_the_count_of_attempts(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=5000, etag='"a"', cut_after=300, cut_times=16)
    async with on_socket(url, retry=QUICK) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    assert content_of(content) == path.read_bytes()
    assert 17 == emulator.contents["reef"]


async def test_drops_without_progress_are_an_error_after_all_attempts(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=5000, cut_after=300, cut_times=99)
    async with on_socket(url, retry=QUICK) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result, tmp_path)

    # the first attempt receives 300 bytes, which resets the count
    assert 4 == emulator.contents["reef"]
    assert [] == names(tmp_path)


async def test_download_of_a_killed_process_is_resumed_by_the_next(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=6 * MIB, etag='"a"', delay=0.005)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        victim = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).parent / "download_victim.py"),
            *(url, "reef", result.videos[0].url, str(tmp_path)),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert victim.stdout is not None
        told = int(await victim.stdout.readline())
        await until(lambda: part_of(tmp_path, 2 * MIB))
        victim.kill()
        await victim.communicate()
        (left,) = names(tmp_path)
        size = (tmp_path / left).stat().st_size
        (path,) = await client.download(result, tmp_path)

    assert 0 == told
    assert left.endswith(".part")
    assert 2 * MIB <= size < 6 * MIB
    assert f"bytes={size}-" == emulator.requests[-1].headers["range"]
    assert content_of(content) == path.read_bytes()
    assert [REEF] == names(tmp_path)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda url: (resume_info_for(url), SAMPLE[:1000]), "bytes=1000-"),
        (lambda url: (resume_info_for(url, total=None), SAMPLE[:1000]), "bytes=1000-"),
        (lambda url: (resume_info_for(url), SAMPLE[:5]), None),
        (lambda url: (resume_info_for(url), b""), None),
        (lambda url: (resume_info_for(url), b"<html>not ours"), None),
        (lambda url: (resume_info_for(url + "/other"), SAMPLE[:1000]), None),
        (lambda _: (None, SAMPLE[:1000]), None),
    ],
)
async def test_old_part_is_resumed_only_if_it_matches(
    emulator: Emulator,
    url: str,
    tmp_path: Path,
    make: Callable[[str], tuple[ResumeInfo | None, bytes]],
    expected: str | None,
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        leave_part(tmp_path, *make(url + result.videos[0].url))
        (path,) = await client.download(result, tmp_path)

    assert expected == emulator.requests[-1].headers.get("range")
    assert SAMPLE == path.read_bytes()
    assert [REEF] == names(tmp_path)


async def test_part_of_another_version_is_discarded(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"new"'))
        wrong = b"\0" * 500
        leave_part(tmp_path, resume_info_for(url + result.videos[0].url), SAMPLE[:500] + wrong)
        (path,) = await client.download(result, tmp_path)

    assert 1 == emulator.contents["reef"]
    assert SAMPLE == path.read_bytes()


async def test_part_longer_than_the_video_is_discarded(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        leave_part(tmp_path, resume_info_for(url + result.videos[0].url), SAMPLE + b"more")
        (path,) = await client.download(result, tmp_path)

    assert SAMPLE == path.read_bytes()


async def test_complete_part_needs_no_request(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        leave_part(tmp_path, resume_info_for(url + result.videos[0].url), SAMPLE)
        (path,) = await client.download(result, tmp_path)

    assert 0 == emulator.contents["reef"]
    assert SAMPLE == path.read_bytes()


async def test_error_between_two_pieces_keeps_the_progress(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    content = Content(size=MIB, etag='"a"', cut_after=1000)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        emulator.fault("content", Fault.error(502))
        await client.download(result, tmp_path, on_progress=lambda *pair: seen.append(pair))

    assert [(1000, MIB), (MIB, MIB)] == [pair for pair in seen if pair[0] in {1000, MIB}]
