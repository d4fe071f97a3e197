"""Downloads that are cancelled or closed: they stop, and release their files."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest
from download_support import MIB, PATH, REEF, begun, content_of, part_of, ready, stuck_server
from support import names, on_socket, result_of, until

from modelmax_async import ClientStateError
from modelmax_async._download.part_file import lock_part
from modelmax_async.emulator import Content, Emulator

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("turns", range(8))
async def test_download_cancelled_and_closed_at_once_releases_its_lock(
    tmp_path: Path, turns: int
) -> None:
    async with stuck_server() as url:
        client = on_socket(url)
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path))
        await until(lambda: begun(tmp_path))
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        await asyncio.wait([task])
        part = await asyncio.to_thread(lock_part, tmp_path / REEF)

    assert part is not None
    await asyncio.to_thread(part.close)

    assert task.cancelled() or task.exception() is not None


@pytest.mark.parametrize("turns", range(8))
async def test_locking_cancelled_and_closed_at_once_releases_the_lock(
    tmp_path: Path, turns: int
) -> None:
    async with stuck_server() as url:
        client = on_socket(url)
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path / "new"))
        await until((tmp_path / "new").exists)
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        await client.aclose()
        await asyncio.wait([task])
        async with asyncio.timeout(5):  # a thread of the client's may still let go of it
            while (part := await asyncio.to_thread(lock_part, tmp_path / "new" / REEF)) is None:
                await asyncio.sleep(0.01)

    await asyncio.to_thread(part.close)


@pytest.mark.parametrize("etag", ['"a"', None])
async def test_cancelled_download_keeps_a_part_that_can_be_resumed(
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

    assert ([True] if etag else []) == [name.endswith(".part") for name in left]
    assert (etag is not None) == (asked is not None)
    assert [REEF] == names(tmp_path)
    assert content_of(content) == (tmp_path / REEF).read_bytes()


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

    assert [] == names(tmp_path)


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
    left = await asyncio.to_thread(lock_part, tmp_path / REEF)
    await asyncio.wait([task])

    assert not running
    assert left is not None  # the lock was released
    assert await asyncio.to_thread(left.close)
    assert left.size >= MIB
    assert "closed" in str(task.exception())


async def test_closing_waits_once_for_a_hanging_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelmax_async._download.downloads._GRACE", 0.1)
    begun, answers = threading.Event(), threading.Event()
    real = os.write

    def hang(number: int, data: bytes) -> int:
        begun.set()
        answers.wait(10)
        return real(number, data)

    async with stuck_server() as url:
        client = on_socket(url)
        task = asyncio.create_task(client.download(result_of(PATH), tmp_path))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", hang)
            await asyncio.to_thread(begun.wait, 5)
            async with asyncio.timeout(3):  # other tasks may take five seconds
                await client.aclose()
        answers.set()
        with pytest.raises(ClientStateError):
            await task
        part = await asyncio.to_thread(lock_part, tmp_path / REEF)

    assert part is not None
    await asyncio.to_thread(part.close)


@pytest.mark.parametrize("turns", range(8))
def test_event_loop_that_ends_during_a_download_releases_its_lock(
    tmp_path: Path, turns: int
) -> None:
    """The program runs an event loop for each job, and does not close its client."""

    async def cancelled() -> None:
        async with stuck_server() as url:
            task = asyncio.create_task(on_socket(url).download(result_of(PATH), tmp_path))
            await until(lambda: begun(tmp_path))
            task.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)

    asyncio.run(cancelled())
    for _ in range(200):
        part = lock_part(tmp_path / REEF)
        if part is not None:
            break
        time.sleep(0.01)

    assert part is not None
    part.close()
