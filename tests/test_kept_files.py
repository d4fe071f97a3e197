"""A paid response too large for memory that breaks off is in a file that the ledger names."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest
from raw_server import listening
from support import on_socket, until

from modelmax_async import (
    AsyncQueueClient,
    ClientStateError,
    InvalidResponseError,
    MemoryLedger,
    ResourceLimits,
    ResultUncertainError,
    SQLiteLedger,
)
from modelmax_async._http.body import paced
from modelmax_async._http.kept_file import KeptFile
from modelmax_async.ledger import Ledger

pytestmark = pytest.mark.anyio
SENT = bytes(range(256)) * 4 * 9 * 1024  # 9 MiB
HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * len(SENT))
SMALL = ResourceLimits(result_bytes=1024)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    kept = tmp_path / "kept"
    kept.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(kept))
    return kept


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    return MemoryLedger() if request.param == "memory" else SQLiteLedger(tmp_path / "runs.db")


class Broken:
    """Sends half of a response, and then hangs up, or waits to be told so."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs
        self.end = asyncio.Event()

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + SENT)
        await writer.drain()
        if self.hangs:
            await self.end.wait()
        writer.close()


async def named_file(client: AsyncQueueClient) -> Path:
    """Return the file that the ledger names for the only unresolved job."""
    (entry,) = await client.unresolved()
    found = re.search(r"the part received is in (.+\.body)", entry.cause or "")
    assert found is not None, entry.cause
    return Path(found[1])


async def test_file_of_a_dropped_connection_is_named(ledger: Ledger) -> None:
    async with listening(Broken()) as url, on_socket(url, ledger=ledger) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.result("x")
        kept = await named_file(client)

    assert str(kept) in str(caught.value)
    assert SENT == kept.read_bytes()
    assert 0o600 == kept.stat().st_mode & 0o777


async def test_file_of_a_call_that_takes_too_long_is_named(ledger: Ledger) -> None:
    server = Broken(hangs=True)
    options: dict[str, Any] = {"ledger": ledger, "timeout": httpx.Timeout(30, read=0.5)}
    async with listening(server) as url, on_socket(url, **options) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.result("x")
        kept = await named_file(client)
        server.end.set()

    assert str(kept) in str(caught.value)
    assert SENT == kept.read_bytes()


async def test_file_of_a_call_that_a_closing_client_leaves_is_named(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[KeptFile] = []

    def make(directory: str) -> KeptFile:
        files.append(KeptFile(directory))
        return files[-1]

    monkeypatch.setattr("modelmax_async._http.body.KeptFile", make)
    server = Broken(hangs=True)
    async with listening(server) as url, on_socket(url, ledger=ledger) as client:
        asking = asyncio.create_task(client.result("x"))
        await until(lambda: [each for each in files if each.size == len(SENT)], within=15)
        await client._engine.settler.drain(0)
        (error,) = await asyncio.gather(asking, return_exceptions=True)
        kept = await named_file(client)
        await until(lambda: kept.stat().st_size == len(SENT))
        server.end.set()

    assert isinstance(error, ClientStateError)
    assert SENT == kept.read_bytes()


class Chunks(httpx.AsyncByteStream):
    """These chunks of a body, and then nothing more, or an error."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks = chunks
        self.error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.error is not None:
            raise self.error


def answering(*chunks: bytes, error: Exception | None = None) -> httpx.MockTransport:
    return httpx.MockTransport(
        lambda _: httpx.Response(200, stream=Chunks(*chunks, error=error))
    )


def fill_disk(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    """Let a disk have room for so many bytes."""
    real = KeptFile._write

    def write(file: KeptFile) -> BinaryIO:
        if file.size > room:
            raise OSError(errno.ENOSPC, "disk full")
        return real(file)

    monkeypatch.setattr(KeptFile, "_write", write)


async def test_disk_that_fills_leaves_the_part_that_it_took_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is more than the memory holds, and what comes after it would leave a gap."""
    monkeypatch.setattr("modelmax_async._http.kept_file._BATCH", 1000)
    chunks = [b"a" * 2000, b"b" * 2000, b"c" * 2000, b"d" * 2000]
    fill_disk(monkeypatch, 4000)
    options: dict[str, Any] = {"http_client": answering(*chunks), "limits": SMALL}
    async with on_socket("http://127.0.0.1", **options) as client:
        with pytest.raises(ResultUncertainError, match="the part received is in"):
            await client.result("x")
        kept = await named_file(client)

    assert [kept] == list(directory.iterdir())
    assert b"".join(chunks[:2]) == kept.read_bytes()


async def test_disk_that_fills_before_the_connection_breaks_loses_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, 0)
    transport = answering(b"a" * 2000, b"b", error=httpx.ReadError("gone"))
    options: dict[str, Any] = {"http_client": transport, "limits": SMALL}
    async with on_socket("http://127.0.0.1", **options) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result("x")
        await until(lambda: not list(directory.iterdir()))

    assert b"a" * 2000 == caught.value.body


async def test_no_directory_for_files_keeps_what_is_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    options: dict[str, Any] = {"http_client": answering(b"a" * 2000, b"b"), "limits": SMALL}
    async with on_socket("http://127.0.0.1", **options) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result("x")

    assert b"a" * 2000 == caught.value.body


async def test_connection_that_breaks_while_the_disk_hangs_still_names_the_file(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call ends in time, and the bytes are written once the disk works again."""
    end = threading.Event()
    real = os.fsync

    def hang(number: int) -> None:
        end.wait(10)
        real(number)

    monkeypatch.setattr("os.fsync", hang)
    transport = answering(b"a" * 2000, b"b", error=httpx.ReadError("gone"))
    options: dict[str, Any] = {"http_client": transport, "limits": SMALL, "timeout": 0.1}
    async with on_socket("http://127.0.0.1", **options) as client:
        with pytest.raises(ResultUncertainError):
            await client.result("x")
        kept = await named_file(client)
        end.set()

    assert b"a" * 2000 + b"b" == kept.read_bytes()


async def test_what_was_put_is_written_by_whichever_thread_comes_first(directory: Path) -> None:
    file = KeptFile(str(directory))
    file.put(b"one, ")
    file.put(b"two")
    file.close_soon()
    await until(lambda: file._closed)
    late = [file.write(), file.close()]

    assert [True, True] == late
    assert b"one, two" == Path(file.path).read_bytes()


async def test_chunks_of_one_byte_let_other_tasks_run() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    received = [chunk async for chunk in paced(Chunks(*[b"x"] * 1600))]
    counting.cancel()

    assert 1600 == len(received)
    assert turns >= 100
