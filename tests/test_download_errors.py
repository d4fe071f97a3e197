"""The errors of downloads: what they say and leave behind, and that they hide the key."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from download_support import (
    MIB,
    PATH,
    REEF,
    SAMPLE,
    SOON,
    begun,
    content_of,
    ready,
    stuck_server,
    url_of,
)
from raw_server import answer, raw_server
from support import KEY, names, on_socket, result_of, until

from modelmax_async import (
    APIError,
    AuthenticationError,
    DownloadError,
    InvalidResponseError,
    ModelMaxError,
    SQLiteLedger,
    TransportError,
)
from modelmax_async._download import directory, part_file
from modelmax_async.emulator import Content, Emulator, Fault

pytestmark = pytest.mark.anyio


def everything(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


async def test_persistent_bad_gateway_is_an_error_after_all_attempts(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.error(502), times=None)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=r"502.*paid result is safe.*later") as caught:
            await client.download(result, tmp_path)

    assert 4 == emulator.contents["reef"]
    assert [] == names(tmp_path)
    assert isinstance(caught.value.__cause__, APIError)
    assert 1 == emulator.billed["reef"]


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
async def test_refusal_is_not_retried_and_names_its_reason(
    emulator: Emulator, url: str, tmp_path: Path, status: int, says: str
) -> None:
    emulator.fault("content", Fault.raw(status, b"x" * 100_000), times=None)
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=says) as caught:
            await client.download(result, tmp_path)

    assert 1 == emulator.contents["reef"]
    assert [] == names(tmp_path)
    assert "/content/0" in caught.value.url
    assert caught.value.job is not None
    assert "reef" == caught.value.job.request_id
    assert caught.value.part is None
    assert "fetch the result" not in str(caught.value)
    assert caught.value == pickle.loads(pickle.dumps(caught.value))
    assert KEY not in repr(vars(caught.value)) + str(caught.value)


REFUSED = answer(b'{"error": {"message": "no such key"}}', status="401 Unauthorized")


@pytest.mark.parametrize("kept", [-3, -20], ids=["a little", "half"])
async def test_refusal_with_a_truncated_body_is_not_retried(tmp_path: Path, kept: int) -> None:
    async with raw_server(REFUSED[:kept]) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="check the API key") as caught:
            await client.download(result_of(PATH), tmp_path)

    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert 1 == len(server.asked)


async def test_refusal_with_an_endless_body_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._http.body._SOON", 0.05)
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


async def test_compressed_body_is_refused(emulator: Emulator, url: str, tmp_path: Path) -> None:
    emulator.fault("content", Fault.gzip())
    async with on_socket(url) as client:
        result = await ready(client, emulator, Content())
        with pytest.raises(DownloadError, match=r"Content-Encoding: gzip"):
            await client.download(result, tmp_path)

    assert [] == names(tmp_path)


async def test_silent_server_is_given_up(emulator: Emulator, url: str, tmp_path: Path) -> None:
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
    assert [] == names(tmp_path)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A disk with a limited number of free bytes."""
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
async def test_full_disk_keeps_a_part_that_can_be_resumed(
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

    assert ([caught.value.part] if etag else []) == [str(found) for found in left]
    assert ([MIB + 5000] if etag else []) == sizes
    assert (f"bytes={MIB + 5000}-" if etag else None) == asked
    assert content_of(content) == path.read_bytes()
    assert [REEF] == names(tmp_path)


async def test_failed_fsync_leaves_no_file(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with on_socket(url) as client:
        result = await ready(client, emulator, Content(etag='"a"'))
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(DownloadError, match="Input/output error"):
            await client.download(result, tmp_path)

    assert [] == names(tmp_path)


def no_directory(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def below_a_file(path: Path) -> Path:
    return no_directory(path) / "videos"


def name_taken(path: Path) -> Path:
    (path / REEF).mkdir(parents=True)
    return path


def part_taken(path: Path) -> Path:
    (path / f"{REEF}.part").mkdir(parents=True)
    return path


def part_is_a_pipe(path: Path) -> Path:
    path.mkdir()
    os.mkfifo(path / f"{REEF}.part")
    return path


@pytest.mark.parametrize(
    "prepare",
    [no_directory, below_a_file, name_taken, part_taken, part_is_a_pipe],
)
async def test_unusable_directory_is_an_error(
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
    assert 0 == emulator.contents["reef"]


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
        monkeypatch.setattr(os, "open", refuse)  # root can write to any directory
        with pytest.raises(DownloadError, match=r"cannot be written to.*Permission denied"):
            await client.download(result, tmp_path)

    assert [] == names(tmp_path)
    assert 0 == emulator.contents["reef"]


async def test_too_many_open_files_is_an_error_that_says_so(
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


async def test_removed_part_is_not_named(tmp_path: Path) -> None:
    async with stuck_server() as url, on_socket(url, timeout=0.3, retry=SOON) as client:
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path))
        await until(lambda: begun(tmp_path))
        for path in tmp_path.glob("*.part"):
            path.unlink()
        with pytest.raises(DownloadError) as caught:
            await task

    assert caught.value.part is None
    assert [] == names(tmp_path)


async def test_file_that_another_process_moved_is_an_error(
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

    assert [] == names(tmp_path)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
async def test_file_system_without_locks_is_an_error_and_leaves_no_file(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def without(_: int) -> bool:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(part_file, "try_lock", without)
    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job("reef"))
        with pytest.raises(DownloadError, match="cannot be locked"):
            await client.download(result, tmp_path)
        assert [] == names(tmp_path)
        (tmp_path / f"{REEF}.part").touch()
        with pytest.raises(DownloadError, match="cannot be locked"):
            await client.download(result, tmp_path)

    assert [f"{REEF}.part"] == names(tmp_path)  # another writer may have created it


async def test_key_quoted_by_an_error_response_is_not_shown(tmp_path: Path) -> None:
    body = b'{"error": {"type": "unauthorized", "message": "no key: %s"}}' % KEY.encode()
    async with (
        raw_server(answer(body, status="401 Unauthorized")) as server,
        on_socket(url_of(server)) as client,
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
async def test_key_quoted_by_a_response_is_neither_shown_nor_stored(
    replies: tuple[bytes, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[object] = []
    async with (
        raw_server(*replies) as server,
        on_socket(
            url_of(server),
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
    assert f"Bearer {SECRET}" == server.asked[0]["authorization"]
    for secret in (SECRET, SECRET.replace("/", "\\/")):
        assert secret not in shown
        assert secret.encode() not in stored


async def test_paid_response_that_quotes_the_key_is_kept_without_it() -> None:
    paid = json.dumps({"status": "COMPLETED", "data": [], "for": SECRET}).encode()
    async with (
        raw_server(DONE, answer(paid)) as server,
        on_socket(url_of(server), api_key=SECRET) as client,
    ):
        with pytest.raises(InvalidResponseError) as caught:
            await client.wait_for("x")

    assert paid.replace(SECRET.encode(), b"sk-...") == caught.value.body


async def test_key_in_a_response_header_is_not_shown(tmp_path: Path) -> None:
    async with (
        raw_server(answer(SAMPLE, f"content-encoding: {KEY}")) as server,
        on_socket(url_of(server)) as client,
    ):
        with pytest.raises(DownloadError, match=r"Content-Encoding: sk-\.\.\."):
            await client.download(result_of(PATH), tmp_path)
