"""Transfers that break: dropped at any byte, cancelled, killed, raced. Whole, or not there."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from raw_server import answer, raw_server
from support import names, on_socket, until

from modelmax_async import AsyncQueueClient, DownloadError, Result, RetryPolicy, Video
from modelmax_async._download import directory, locking, part_file
from modelmax_async._download.directory import SavedVideo
from modelmax_async._download.file_lock import try_lock
from modelmax_async._download.names import ResumeInfo, part_name, source_digest
from modelmax_async._download.part_file import PartFile, lock_part
from modelmax_async.emulator import Content, Emulator, Fault, JobScript, sample_mp4
from modelmax_async.emulator.content import RangeMode

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024
SAMPLE = sample_mp4()
PATH = "/v1/queue/veo-3/requests/abc/content/0"
RESULT = Result("reef", "veo-3", (Video(PATH, 0),))
QUICK = RetryPolicy(initial=0.001, maximum=0.002)
LATER = "date: Tue, 02 Jan 2024 00:00:00 GMT"
EARLIER = "last-modified: Mon, 01 Jan 2024 00:00:00 GMT"


def content_of(content: Content, version: int = 0) -> bytes:
    return b"".join(content.window(0, content.total, version=version))


async def ready(client: AsyncQueueClient, emulator: Emulator, content: Content) -> Result:
    return await client.wait_for(emulator.add_job("reef", script=JobScript(content=content)))


async def lock_or_find(target: Path, *, overwrite: bool) -> PartFile | SavedVideo:
    places = asyncio.Semaphore(1)
    async with locking.locked_part(
        target, places, overwrite=overwrite, give_up_after=1
    ) as found:
        return found


def part_of(directory: Path, least: int = 1) -> Path | None:
    found = [path for path in directory.glob("*.part") if path.stat().st_size >= least]
    return found[0] if found else None


async def attempt(
    client: AsyncQueueClient, result: Result, directory: Path
) -> tuple[list[str], list[str]]:
    """Download once, and return what is there after it, and what should be."""
    try:
        (path,) = await client.download(result, directory)
    except DownloadError as exc:
        return names(directory), [Path(exc.part).name] if exc.part else []
    return names(directory), [path.name]


def read(directory: str) -> bytes:
    return Path(directory, "reef-0.mp4").read_bytes()


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


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=CONTENTS)
async def test_dropped_at_any_byte_the_file_is_identical_or_absent(content: Content) -> None:
    emulator = Emulator()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with emulator.serve() as url, on_socket(url, retry=QUICK) as client:
            result = await ready(client, emulator, content)
            left = [await attempt(client, result, directory) for _ in range(3)]
        calls = emulator.contents["reef"]
        wholes = [content_of(content, v * content.etag_changes) for v in range(calls + 1)]

        assert all(found == told for found, told in left)
        assert names(directory) == ["reef-0.mp4"]
        assert (directory / "reef-0.mp4").read_bytes() in wholes


async def test_index_cut_off_with_the_connection_is_missed(tmp_path: Path) -> None:
    late = SAMPLE[:32] + SAMPLE[930:] + SAMPLE[32:922]  # ftyp, mdat, moov
    cut = answer(late[: len(late) - 890], length=False)
    async with (
        raw_server(cut, answer(late, length=False)) as server,
        on_socket(f"http://127.0.0.1:{server.port}", retry=QUICK) as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert late == path.read_bytes()
    assert len(server.asked) == 2


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(0, len(SAMPLE) - 1), max_size=4),
    fields=st.sampled_from([(), ('etag: "a"',), (EARLIER, LATER)]),
)
async def test_connection_that_ends_the_body_at_any_byte_gives_no_broken_file(
    cuts: list[int], fields: tuple[str, ...]
) -> None:
    answers = [answer(SAMPLE[:cut], *fields, length=False) for cut in [*cuts, len(SAMPLE)]]
    with tempfile.TemporaryDirectory() as name:
        async with raw_server(*answers) as server:
            base = f"http://127.0.0.1:{server.port}"
            async with on_socket(base, retry=QUICK) as client:
                try:
                    await client.download(RESULT, name)
                except DownloadError:
                    await client.download(RESULT, name)

        assert names(Path(name)) == ["reef-0.mp4"]
        assert read(name) == SAMPLE


async def test_broken_transfer_goes_on_where_it_was(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=3 * MIB, etag='"a"', cut_after=MIB + 7, cut_times=2)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    asked = [r.headers for r in emulator.requests if r.endpoint == "content"]
    assert content_of(content) == path.read_bytes()
    assert [headers.get("range") for headers in asked] == [
        None,
        f"bytes={MIB + 7}-",
        f"bytes={2 * MIB + 14}-",
    ]
    assert asked[1]["if-range"] == '"a"'


@pytest.mark.parametrize(
    "ranges", ["ignore", "wrong-offset", "wrong-total", "416", "no-content-range"]
)
async def test_server_that_mishandles_ranges_is_started_over(
    emulator: Emulator, url: str, tmp_path: Path, ranges: RangeMode
) -> None:
    content = Content(size=5000, etag='"a"', ranges=ranges, cut_after=700)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    asked = [r.headers.get("range") for r in emulator.requests if r.endpoint == "content"]
    assert content_of(content) == path.read_bytes()
    assert asked[:2] == [None, "bytes=700-"]
    assert asked[2:] == ([] if ranges == "ignore" else [None])


async def test_version_that_changes_is_started_over(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=5000, etag_changes=True, cut_after=700, cut_times=2)
    async with on_socket(url) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    assert content_of(content, 3) == path.read_bytes()


async def test_date_serves_as_a_validator(tmp_path: Path) -> None:
    rest = answer(
        SAMPLE[2000:],
        EARLIER,
        f"content-range: bytes 2000-{len(SAMPLE) - 1}/{len(SAMPLE)}",
        status="206 Partial Content",
    )
    first = answer(SAMPLE, EARLIER, LATER)[: 2000 - len(SAMPLE)]
    async with (
        raw_server(first, rest) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert path.read_bytes() == SAMPLE
    assert server.asked[1]["if-range"] == EARLIER.partition(": ")[2]


async def test_piece_that_shows_no_version_is_not_joined(tmp_path: Path) -> None:
    """A server that ignores ``If-Range`` may send the rest of another video."""
    changed = bytes(len(SAMPLE) - 2000)
    rest = answer(
        changed,
        f"content-range: bytes 2000-{len(SAMPLE) - 1}/{len(SAMPLE)}",
        status="206 Partial Content",
    )
    first = answer(SAMPLE, EARLIER, LATER)[: 2000 - len(SAMPLE)]
    async with (
        raw_server(first, rest, answer(SAMPLE)) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert path.read_bytes() == SAMPLE
    assert "range" not in server.asked[2]


@pytest.mark.parametrize("cut", [0, 3], ids=["whole", "cut off"])
async def test_piece_that_is_longer_than_its_range_is_not_joined(
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
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        (path,) = await client.download(RESULT, tmp_path)

    assert path.read_bytes() == SAMPLE
    assert "range" not in server.asked[2]


async def test_progress_keeps_an_endless_row_of_drops_going(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=5000, etag='"a"', cut_after=300, cut_times=16)
    async with on_socket(url, retry=QUICK) as client:
        (path,) = await client.download(await ready(client, emulator, content), tmp_path)

    assert content_of(content) == path.read_bytes()
    assert emulator.contents["reef"] == 17


async def test_drops_without_progress_end_after_the_attempts(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=5000, cut_after=300, cut_times=99)
    async with on_socket(url, retry=QUICK) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(DownloadError, match="interrupted"):
            await client.download(result, tmp_path)

    # the first brings 300 bytes further than ever, and so begins the count
    assert emulator.contents["reef"] == 4
    assert names(tmp_path) == []


@pytest.mark.parametrize("etag", ['"a"', None])
async def test_cancelled_download_stops_and_leaves_what_can_be_gone_on_with(
    emulator: Emulator, url: str, tmp_path: Path, etag: str | None
) -> None:
    content = Content(size=16 * MIB, etag=etag, delay=0.001)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        task = asyncio.create_task(client.download(result, tmp_path))
        await until(lambda: part_of(tmp_path, MIB))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = names(tmp_path)
        running = client._engine.downloads._running
        assert not running
        await until(lambda: not emulator.in_flight)
        await client.download(result, tmp_path)

    asked = emulator.requests[-1].headers.get("range")
    assert [name.endswith(".part") for name in left] == ([True] if etag else [])
    assert (asked is not None) == (etag is not None)
    assert names(tmp_path) == ["reef-0.mp4"]
    assert content_of(content) == (tmp_path / "reef-0.mp4").read_bytes()


async def test_timeout_around_a_download_stops_it(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=16 * MIB, delay=0.01)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.download(result, tmp_path)
        await until(lambda: not emulator.in_flight)

    assert names(tmp_path) == []


async def test_closing_the_client_stops_downloads(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    content = Content(size=16 * MIB, etag='"a"', delay=0.001)
    client = on_socket(url)
    result = await ready(client, emulator, content)
    task = asyncio.create_task(client.download(result, tmp_path))
    await until(lambda: part_of(tmp_path, MIB))
    await client.aclose()
    running = set(client._engine.downloads._running)
    left = await asyncio.to_thread(lock_part, tmp_path / "reef-0.mp4")
    await asyncio.wait([task])

    assert not running
    assert left is not None  # nobody has it any more
    assert await asyncio.to_thread(left.close)
    assert left.size >= MIB
    assert "closed" in str(task.exception())


async def test_killed_process_leaves_no_file_and_the_next_one_goes_on(
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

    assert told == 0
    assert left.endswith(".part")
    assert 2 * MIB <= size < 6 * MIB
    assert emulator.requests[-1].headers["range"] == f"bytes={size}-"
    assert content_of(content) == path.read_bytes()
    assert names(tmp_path) == ["reef-0.mp4"]


def leave_part(directory: Path, resume_info: ResumeInfo | None, data: bytes) -> Path:
    path = directory / part_name("reef-0.mp4", resume_info)
    path.write_bytes(data)
    return path


def resume_info_for(
    url: str, validator: str = '"a"', total: int | None = len(SAMPLE)
) -> ResumeInfo:
    return ResumeInfo(source_digest(url), validator, total)


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
async def test_stale_part_is_gone_on_with_only_where_it_is_known_to_fit(
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
    assert path.read_bytes() == SAMPLE
    assert names(tmp_path) == ["reef-0.mp4"]


async def test_part_of_another_version_is_started_over(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"new"'))
        wrong = b"\0" * 500
        leave_part(tmp_path, resume_info_for(url + result.videos[0].url), SAMPLE[:500] + wrong)
        (path,) = await client.download(result, tmp_path)

    assert emulator.contents["reef"] == 1
    assert path.read_bytes() == SAMPLE


async def test_part_that_is_longer_than_the_video_is_started_over(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        leave_part(tmp_path, resume_info_for(url + result.videos[0].url), SAMPLE + b"more")
        (path,) = await client.download(result, tmp_path)

    assert path.read_bytes() == SAMPLE


async def test_part_that_is_whole_needs_no_request(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        leave_part(tmp_path, resume_info_for(url + result.videos[0].url), SAMPLE)
        (path,) = await client.download(result, tmp_path)

    assert emulator.contents["reef"] == 0
    assert path.read_bytes() == SAMPLE


@pytest.mark.parametrize("overwrite", [True, False])
async def test_two_clients_download_one_video_into_one_directory(
    emulator: Emulator, url: str, tmp_path: Path, *, overwrite: bool
) -> None:
    content = Content(size=4 * MIB, etag='"a"', delay=0.002)
    async with on_socket(url) as one, on_socket(url) as two:
        result = await ready(one, emulator, content)
        paths = await asyncio.gather(
            *(c.download(result, tmp_path, overwrite=overwrite) for c in (one, two, one, two))
        )

    assert len({path for (path,) in paths}) == 1
    assert content_of(content) == paths[0][0].read_bytes()
    assert emulator.contents["reef"] == (4 if overwrite else 1)
    assert names(tmp_path) == ["reef-0.mp4"]


async def test_writer_that_gets_nowhere_is_not_waited_for_for_ever(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    held = await asyncio.to_thread(lock_part, tmp_path / "reef-0.mp4")
    assert held is not None
    async with on_socket(url, retry=RetryPolicy(give_up_after=0.2)) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(
            DownloadError, match=r"another download of this video has made no progress"
        ) as caught:
            await client.download(result, tmp_path)
    await asyncio.to_thread(held.close)

    assert caught.value.part is None
    assert emulator.contents["reef"] == 0
    assert names(tmp_path) == []


def test_claims_never_overlap(tmp_path: Path) -> None:
    """Threads claim, rename, write and finish; two never hold the file at once."""
    target = tmp_path / "reef-0.mp4"
    holders: list[int] = []
    faults: list[str] = []

    def work(number: int) -> None:
        for turn in range(40):
            part = lock_part(target)
            if part is None:
                continue
            holders.append(number)
            if len(holders) > 1:
                faults.append(f"{holders}")
            for resume_info in (ResumeInfo("0" * 16, f'"{turn % 3}"', 5), None, None):
                part.reset(resume_info)
            part.append(b"12345")
            holders.remove(number)
            if turn % 5 == 0:
                part.finish()
            part.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    assert target.read_bytes() == b"12345"


def test_part_renamed_by_its_holder_is_not_created_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "reef-0.mp4"
    marked = leave_part(tmp_path, resume_info_for("x"), b"held")
    real = directory.find_part
    monkeypatch.setattr(
        part_file, "find_part", lambda _: monkeypatch.setattr(part_file, "find_part", real)
    )  # the first look comes just while it is being renamed

    assert lock_part(target) is None
    assert names(tmp_path) == [marked.name]


def test_part_is_left_alone_when_another_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = leave_part(tmp_path, resume_info_for("x"), b"behind")
    before = leave_part(tmp_path, resume_info_for("x", '"longer"'), b"before")
    real, looks = directory.find_part, iter([behind])
    monkeypatch.setattr(
        part_file, "find_part", lambda target: next(looks, None) or real(target)
    )

    assert lock_part(tmp_path / "reef-0.mp4") is None
    assert names(tmp_path) == sorted([behind.name, before.name])


def test_part_is_not_put_in_place_when_its_name_is_anothers(tmp_path: Path) -> None:
    part = lock_part(tmp_path / "reef-0.mp4")
    assert part is not None
    part.append(b"mine")
    part.path.unlink()
    part.path.write_bytes(b"beginning of another's")

    with pytest.raises(FileNotFoundError, match="removed"):
        part.finish()
    part.close()
    assert names(tmp_path) == ["reef-0.mp4.part"]


def test_part_that_lost_its_mark_is_known_as_a_part(tmp_path: Path) -> None:
    target = tmp_path / "reef-0.mp4"
    part = lock_part(target)
    assert part is not None
    for resume_info in (resume_info_for("x"), None, None):
        part.reset(resume_info)
    name = part.path.name

    assert lock_part(target) is None
    part.close()
    assert name == "reef-0.mp4.0.part"
    assert names(tmp_path) == []


def test_part_that_vanishes_between_look_and_lock_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "reef-0.mp4"
    part = leave_part(tmp_path, None, b"")
    lock = try_lock

    def late(number: int) -> bool:
        part.unlink()
        return lock(number)

    monkeypatch.setattr(part_file, "try_lock", late)
    gone = lock_part(target)
    monkeypatch.setattr(part_file, "find_part", lambda _: part)
    monkeypatch.setattr(directory, "find_part", lambda _: part)

    assert gone is None
    assert lock_part(target) is None
    assert directory.part_progress(target) is None


def test_closed_part_takes_no_more(tmp_path: Path) -> None:
    part = lock_part(tmp_path / "reef-0.mp4")
    assert part is not None
    part.close()

    with pytest.raises(ValueError, match="closed"):
        part.append(b"x")
    assert not part.close()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_claim_cancelled_in_its_thread_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    target = tmp_path / "reef-0.mp4"
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def slow(path: Path) -> PartFile | None:
        part = lock_part(path) if when == "after" else None
        begun.set()
        go.wait(5)
        part = part or lock_part(path)
        done.set()
        return part

    monkeypatch.setattr(locking, "lock_part", slow)
    task = asyncio.create_task(lock_or_find(target, overwrite=True))
    await asyncio.to_thread(begun.wait, 5)
    task.cancel()
    await asyncio.wait([task])
    go.set()
    await asyncio.to_thread(done.wait, 5)
    await until(lambda: names(tmp_path) == [])
    again = await asyncio.to_thread(lock_part, target)

    assert task.cancelled()
    assert again is not None
    await asyncio.to_thread(again.close)


def test_claim_that_was_had_when_cancelled_is_let_go(tmp_path: Path) -> None:
    attempt = locking._LockAttempt(tmp_path / "reef-0.mp4", overwrite=False)
    attempt.run()
    attempt.abandon()

    assert names(tmp_path) == []


async def test_video_put_there_just_before_the_claim_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "reef-0.mp4"

    def last_moment(path: Path) -> PartFile | None:
        target.write_bytes(SAMPLE)
        return lock_part(path)

    def turned(path: Path) -> PartFile | None:
        target.unlink()
        target.mkdir()
        return lock_part(path)

    monkeypatch.setattr(locking, "lock_part", last_moment)
    found = await lock_or_find(target, overwrite=False)
    target.write_bytes(b"")
    monkeypatch.setattr(locking, "lock_part", turned)
    with pytest.raises(directory.NotAFileError):
        await lock_or_find(target, overwrite=False)

    assert found == SavedVideo(target, len(SAMPLE))
    assert names(tmp_path) == ["reef-0.mp4"]


async def test_fault_after_the_first_piece_keeps_the_count_of_bytes(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    seen: list[tuple[int, int | None]] = []
    content = Content(size=MIB, etag='"a"', cut_after=1000)
    async with on_socket(url) as client:
        result = await ready(client, emulator, content)
        emulator.fault("content", Fault.error(502))
        await client.download(result, tmp_path, on_progress=lambda *pair: seen.append(pair))

    assert [pair for pair in seen if pair[0] in {1000, MIB}] == [(1000, MIB), (MIB, MIB)]


def test_files_that_end_in_a_header_are_scanned(tmp_path: Path) -> None:
    for size in (0, 4, 12, 40, 950):
        path = tmp_path / f"{size}"
        path.write_bytes(SAMPLE[:size])
        with path.open("rb") as file:
            boxes = directory.scan(file.fileno(), size)
        boxes.feed(SAMPLE[size:], size)

        assert boxes.complete(len(SAMPLE), strict=True)
