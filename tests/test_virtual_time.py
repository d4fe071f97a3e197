"""Virtual time: the clock jumps to the next timer, but never while a known thread works."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import pytest
from support import key_and_job

from modelmax_async import SQLiteLedger
from modelmax_async.ledger import Look
from modelmax_async.testing import VirtualTimeLoop

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

Work = Callable[[], Awaitable[object]]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_days_pass_in_an_instant() -> None:
    began = time.monotonic()
    await asyncio.sleep(30 * 86400)

    assert 30 * 86400 == now()
    assert time.monotonic() - began < 1


async def test_timers_fire_in_order_at_their_times() -> None:
    seen: list[float] = []
    for delay in (3.0, 1.0, 2.0):
        asyncio.get_running_loop().call_later(delay, lambda: seen.append(now()))
    await asyncio.sleep(4)

    assert [1.0, 2.0, 3.0] == seen


async def _executor() -> None:
    await asyncio.to_thread(time.sleep, 0.1)


async def _anyio() -> None:
    await anyio.to_thread.run_sync(time.sleep, 0.1)


@pytest.mark.parametrize("work", [_executor, _anyio])
async def test_clock_stands_still_while_a_thread_works(work: Work) -> None:
    async with asyncio.timeout(5):
        await work()

    assert 0.0 == now()


@pytest.mark.parametrize("work", [_executor, _anyio])
async def test_idle_thread_does_not_hold_the_clock(work: Work) -> None:
    await work()
    began = time.monotonic()
    await asyncio.sleep(600)

    assert 600.0 == now()
    assert time.monotonic() - began < 1


async def test_clock_stands_still_while_the_ledger_writes(tmp_path: Path) -> None:
    key, job = key_and_job("reef")
    ledger = SQLiteLedger(tmp_path / "runs.db")
    async with asyncio.timeout(0.5):
        for _ in range(20):
            await ledger.apply(key, Look(job))
    await ledger.aclose()

    assert 0.0 == now()


async def test_thread_slower_than_a_timer_lets_the_timer_fire() -> None:
    began, stop = time.monotonic(), threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.to_thread(stop.wait)
    stop.set()

    assert 0.1 == now()
    assert time.monotonic() - began >= 0.1


async def test_thread_wakes_a_loop_without_timers() -> None:
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        time.sleep(0.05)
        loop.call_soon_threadsafe(woken.set)

    threading.Thread(target=wake).start()
    await woken.wait()

    assert 0.0 == now()


@pytest.mark.parametrize(
    "start",
    [
        lambda: asyncio.open_connection("127.0.0.1", 9),
        lambda: asyncio.start_server(print, "127.0.0.1", 0),
        lambda: asyncio.create_subprocess_exec("true"),
        lambda: asyncio.create_subprocess_shell("true"),
        lambda: asyncio.get_running_loop().sock_connect(None, None),  # type: ignore[arg-type]  # it is refused before
    ],
)
async def test_sockets_and_processes_are_refused(start: Work) -> None:
    with pytest.raises(RuntimeError, match="virtual time does not wait for sockets"):
        await start()


def test_runner_takes_the_loop_and_closes_its_threads() -> None:
    before = threading.active_count()
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(_executor())

    assert before == threading.active_count()


def test_files_can_be_watched_as_on_any_loop() -> None:
    """The selector is complete, although this package never watches a file."""
    loop = VirtualTimeLoop()
    ready, wake = socket.socketpair()
    loop.add_reader(ready, loop.stop)
    loop.add_writer(ready, print)  # a second event changes the registration
    loop.remove_writer(ready)
    wake.send(b"x")
    loop.run_forever()
    loop.remove_reader(ready)
    loop.close()
    ready.close()
    wake.close()
