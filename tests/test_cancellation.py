"""Whatever is cancelled, by whatever means: never a second call, never a lost result."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from support import in_process, in_virtual_time, on_socket

from modelmax_async import ClientStateError, MemoryLedger, Result, ResultUncertainError
from modelmax_async._http import Exchange
from modelmax_async._http.transports import Kind
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, ResultUncertain
from modelmax_async.ledger import Arm, Claim, Key, Move, Remember, Step, Store

pytestmark = pytest.mark.anyio
Waiting = Callable[[], Awaitable[Any]]


async def by_task_cancel(wait: Waiting, seconds: float) -> None:
    task = asyncio.ensure_future(wait())
    await asyncio.sleep(seconds)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(wait: Waiting, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait()


async def by_wait_for(wait: Waiting, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wait(), seconds)


async def by_failing_sibling(wait: Waiting, seconds: float) -> None:
    async def fail() -> None:
        await asyncio.sleep(seconds)
        raise KeyError("sibling")

    async def run() -> None:
        await wait()

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            group.create_task(fail())


async def by_anyio_scope(wait: Waiting, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await wait()


MEANS = [by_task_cancel, by_asyncio_timeout, by_wait_for, by_failing_sibling, by_anyio_scope]


class Pausing(MemoryLedger):
    """A ledger that stands still for a moment at one kind of move, before or after it."""

    def __init__(self, kind: type[Move], *, before: bool) -> None:
        super().__init__()
        self.kind = kind
        self.before = before
        self.reached = asyncio.Event()

    async def _pause(self, move: Move) -> None:
        if isinstance(move, self.kind):
            self.reached.set()
            await asyncio.sleep(0.15)

    async def apply(self, key: Key, move: Move) -> Step | None:
        if self.before:
            await self._pause(move)
        done = await super().apply(key, move)
        if not self.before:
            await self._pause(move)
        return done


@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("kind", [Remember, Claim, Arm, Store])
async def test_cancelled_at_a_ledger_move_the_job_is_billed_once(
    emulator: Emulator, url: str, kind: type[Move], before: bool, means: Any
) -> None:
    request_id = emulator.add_job()
    ledger = Pausing(kind, before=before)

    async with on_socket(url, ledger=ledger) as client:

        async def wait() -> None:
            await client.wait_for(request_id)

        await means(wait, 0.08)
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


@in_virtual_time
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("method", ["wait_for", "result", "generate", "gather_results"])
async def test_cancelled_while_the_billed_call_is_out_the_result_is_stored(
    emulator: Emulator, method: str, means: Any
) -> None:
    emulator.fault("result", Fault.hang(9))
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger) as client:
        argument: Any = {
            "generate": "a reef",
            "gather_results": [emulator.add_job()],
        }.get(method) or emulator.add_job()
        await means(lambda: getattr(client, method)(argument), 5)
    stored = await ledger.entries("http://127.0.0.1:80", {"stored"})

    assert 1 == emulator.billed_total
    assert [*emulator.billed] == [entry.job.request_id for entry in stored]


async def test_cancelled_submit_is_still_recorded(emulator: Emulator, url: str) -> None:
    emulator.fault("submit", Fault.hang(0.1))

    async with on_socket(url) as client:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.submit("a reef"), 0.03)
        await asyncio.sleep(0.2)
        pending = await client.pending()

    assert [*emulator.jobs] == [job.request_id for job in pending]


@in_virtual_time
@pytest.mark.parametrize("seed", range(40))
async def test_any_subset_cancelled_at_any_moment_bills_each_job_once(
    emulator: Emulator, seed: int
) -> None:
    """Random cancellations in virtual time; those who stay get their results."""
    chance = random.Random(seed)
    ids = [
        emulator.add_job(script=JobScript(run_seconds=chance.uniform(0, 3))) for _ in range(20)
    ]
    for _ in range(20):
        emulator.fault("result", Fault.hang(chance.uniform(0, 2)), times=1)

    async with in_process(emulator) as client:

        async def one(request_id: str, means: Any, seconds: float) -> None:
            await means(lambda: client.wait_for(request_id), seconds)

        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                delay = chance.choice([0.0, 0.001, chance.uniform(0, 6)])
                group.create_task(one(chance.choice(ids), chance.choice(MEANS), delay))
        results = await client.gather_results(ids)

    assert ids == [result.request_id for result in results]
    assert dict.fromkeys(ids, 1) == emulator.result_calls


async def test_two_thousand_native_cancellations_leak_no_slot(
    emulator: Emulator, url: str
) -> None:
    chance = random.Random(1)
    ids = [emulator.add_job(script=JobScript(run_seconds=100)) for _ in range(50)]

    async with on_socket(url, max_in_flight=8) as client:

        async def ask() -> None:
            calls: list[Callable[[str], Awaitable[Any]]] = [
                client.status,
                client.wait_for,
                client.result,
            ]
            with contextlib.suppress(Exception):
                await chance.choice(calls)(chance.choice(ids))

        for _ in range(20):
            tasks = [asyncio.create_task(ask()) for _ in range(100)]
            for task in tasks:
                await asyncio.sleep(0)
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.uniform(0, 0.003))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        done = emulator.add_job()
        result = await asyncio.wait_for(client.wait_for(done), 10)
        async with asyncio.timeout(5):
            while client._engine.http._slots.in_flight:
                await asyncio.sleep(0.01)

        assert done == result.request_id
        assert "0 of 8 in flight" in repr(client._engine.http)
        assert "0 jobs" in repr(client)
    assert {done: 1} == emulator.billed


async def test_cancelling_the_closer_does_not_shorten_the_drain(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(0.4))
    ledger = MemoryLedger()
    client = on_socket(url, ledger=ledger)
    waiting = asyncio.create_task(client.wait_for(request_id))
    while not emulator.billed_total:
        await asyncio.sleep(0.01)

    closing = asyncio.create_task(client.aclose())
    for _ in range(3):
        await asyncio.sleep(0.02)
        closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing

    assert isinstance(await waiting, Result)
    assert ["stored"] == [entry.state for entry in ledger._entries.values()]


@in_virtual_time
async def test_drain_is_bounded_and_records_what_it_had_to_leave(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(10_000))
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger, timeout=30) as client:
        # A client of the caller's own may have no read timeout to end this call.
        transport = client._engine.http
        transport._limits = attrs.evolve(transport._limits, extensions={"timeout": {}})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.wait_for(request_id), 5)
        closed_at = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - closed_at

    assert 30 == pytest.approx(took, abs=1)
    assert ["uncertain"] == [entry.state for entry in ledger._entries.values()]


async def test_drain_is_not_held_up_by_a_disk_that_hangs(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer too large for memory is written to a file; that may never end."""
    begun, answers = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        begun.set()
        answers.wait(10)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.fsync", hang)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * 1024 * 1024))
    ledger = MemoryLedger()
    client = on_socket(url, ledger=ledger, timeout=0.5)
    waiting = asyncio.create_task(client.wait_for(request_id))
    await asyncio.to_thread(begun.wait, 5)
    async with asyncio.timeout(5):
        await client.aclose()
        await asyncio.wait([waiting])
    states = [entry.state for entry in ledger._entries.values()]
    answers.set()

    assert ["uncertain"] == states
    assert isinstance(waiting.exception(), ClientStateError)


async def test_closing_in_a_cancelled_scope_does_not_spin(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """anyio cancels at every turn of the loop what stays in a scope that was cancelled."""
    turns = 0
    real = asyncio.wait

    def wait(*arguments: Any, **options: Any) -> Any:
        nonlocal turns
        turns += 1
        return real(*arguments, **options)

    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(0.5))
    client = on_socket(url)
    waiting = asyncio.create_task(client.wait_for(request_id))
    while not emulator.result_calls:
        await asyncio.sleep(0.01)
    monkeypatch.setattr(asyncio, "wait", wait)
    with anyio.move_on_after(0.05):
        await client.aclose()

    assert isinstance(await waiting, Result)
    assert turns < 20


async def test_closing_before_byte_zero_releases_the_claim(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    ledger = Pausing(Claim, before=False)
    client = on_socket(url, ledger=ledger)
    waiting = asyncio.create_task(client.wait_for(request_id))
    await ledger.reached.wait()

    await client.aclose()
    with pytest.raises(Exception, match="closed"):
        await waiting

    assert ["known"] == [entry.state for entry in ledger._entries.values()]
    assert {} == emulator.result_calls


async def _leave_in_the_middle(
    url: str, ledger: MemoryLedger, until: Callable[[], bool]
) -> None:
    """Run a program, on a loop of its own, that ends in mid-call without closing its client."""

    async def main() -> None:
        waiting = asyncio.ensure_future(on_socket(url, ledger=ledger).wait_for("x"))
        async with asyncio.timeout(5):
            while not until():
                await asyncio.sleep(0.01)
        waiting.cancel()

    await asyncio.to_thread(lambda: asyncio.run(main()))
    gc.collect()  # the connections that nobody closed


unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@unclosed
async def test_event_loop_that_closes_in_the_middle_leaves_it_uncertain(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("x")
    emulator.fault("result", Fault.hang(5))
    ledger = MemoryLedger()

    await _leave_in_the_middle(url, ledger, lambda: bool(emulator.billed_total))

    (entry,) = ledger._entries.values()
    assert "uncertain" == entry.state
    assert "event loop ended" in (entry.cause or "")
    assert {"x": 1} == emulator.result_calls


@unclosed
async def test_event_loop_that_closes_before_byte_zero_leaves_it_free(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("x")
    ledger = Pausing(Arm, before=True)

    await _leave_in_the_middle(url, ledger, ledger.reached.is_set)

    (entry,) = ledger._entries.values()
    assert "known" == entry.state
    assert {} == emulator.result_calls


@in_virtual_time
async def test_billed_call_cancelled_while_it_connects_is_released(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger) as client:
        transport = client._engine.http

        async def never_connect(call: Any, exchange: Exchange) -> Any:
            await exchange.begin(Kind.OWN, by_trace=True)
            await exchange.trace("connection.connect_tcp.started", {})
            await asyncio.sleep(1000)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(transport, "send_once", never_connect)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.wait_for(request_id), 5)
            for task in client._engine.tasks.others():
                task.cancel()
            await asyncio.sleep(1)
        (entry,) = ledger._entries.values()
        assert "known" == entry.state
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_billed_call_cancelled_while_it_waits_for_a_slot_is_released(
    emulator: Emulator, url: str
) -> None:
    blocking, wanted = emulator.add_job(), emulator.add_job()
    emulator.fault("status", Fault.hang(15), request_id=blocking)
    ledger = MemoryLedger()
    seen: list[Event] = []

    async with on_socket(url, ledger=ledger, max_in_flight=1, hooks=[seen.append]) as client:
        asking = asyncio.create_task(client.status(blocking))
        await asyncio.sleep(0.1)
        fetching = asyncio.create_task(client.result(wanted))
        await asyncio.sleep(0.1)
        for flight in client._engine.settler._flights.values():
            flight.task.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        asking.cancel()
        states = [entry.state for entry in ledger._entries.values()]

    assert ["known"] == states
    assert [] == [event for event in seen if isinstance(event, ResultUncertain)]
    assert {} == emulator.result_calls


async def test_uncertain_job_stays_so_for_waiters_who_come_later(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with on_socket(url) as client:
        ended = await asyncio.gather(
            *(client.wait_for(request_id) for _ in range(10)), return_exceptions=True
        )
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert [ResultUncertainError] * 10 == [type(end) for end in ended]
    assert 10 == len({id(end) for end in ended})
    assert {request_id: 1} == emulator.result_calls
