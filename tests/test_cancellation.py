"""Cancellation, by any means and at any moment: one billed call, and no lost result."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from ledgers import Handle, Pause, on, states
from support import ORIGIN, STEADY, in_process, in_virtual_time, on_socket, until

from modelmax_async import MemoryLedger
from modelmax_async._http import Exchange
from modelmax_async._http.transports import Kind
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, ResultUncertain
from modelmax_async.ledger import Arm, Claim, Ledger, Move, Remember, Store

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


@in_virtual_time
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("kind", [Remember, Claim, Arm, Store])
async def test_cancelled_at_a_ledger_move_the_job_is_billed_once(
    emulator: Emulator, kind: type[Move], before: bool, means: Any
) -> None:
    request_id = emulator.add_job()
    pause = on(kind, Pause())
    store = MemoryLedger()
    ledger = Handle(store, before=pause) if before else Handle(store, after=pause)

    async with in_process(emulator, ledger=ledger) as client:
        await means(lambda: client.wait_for(request_id), 0.5)
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

    async with in_process(emulator, ledger=ledger, poll=STEADY) as client:
        argument: Any = {
            "generate": "a reef",
            "gather_results": [emulator.add_job()],
        }.get(method) or emulator.add_job()
        await means(lambda: getattr(client, method)(argument), 5)
    stored = await ledger.entries(ORIGIN, {"stored"})

    assert 1 == emulator.billed_total
    assert [*emulator.billed] == [entry.job.request_id for entry in stored]


@in_virtual_time
@pytest.mark.untraced
@pytest.mark.parametrize("seed", range(40))
async def test_any_subset_cancelled_at_any_moment_bills_each_job_once(
    emulator: Emulator, seed: int
) -> None:
    """Waiters are cancelled at random; those that remain get their results."""
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


@pytest.mark.untraced
async def test_a_thousand_native_cancellations_leak_no_slot(
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

        for _ in range(10):
            tasks = [asyncio.create_task(ask()) for _ in range(100)]
            for task in tasks:
                await asyncio.sleep(0)
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.uniform(0, 0.003))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        done = emulator.add_job()
        result = await asyncio.wait_for(client.wait_for(done), 10)
        await until(lambda: "0 of 8 in flight" in repr(client._engine.http))
        await until(lambda: "0 jobs" in repr(client))  # gone once it is due

    assert done == result.request_id
    assert {done: 1} == emulator.billed


async def _leave_when(condition: Callable[[], object], url: str, ledger: Ledger) -> None:
    """Run an event loop that ends during a call, without closing the client."""

    async def main() -> None:
        waiting = asyncio.ensure_future(on_socket(url, ledger=ledger).wait_for("x"))
        await until(condition)
        waiting.cancel()

    await asyncio.to_thread(lambda: asyncio.run(main()))
    gc.collect()  # the connections that were not closed


unclosed = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@unclosed
async def test_event_loop_that_ends_during_a_call_leaves_the_job_uncertain(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("x")
    emulator.fault("result", Fault.hang(5))
    ledger = MemoryLedger()

    await _leave_when(lambda: emulator.billed_total, url, ledger)

    (entry,) = ledger._entries.values()

    assert "uncertain" == entry.state
    assert "event loop ended" in (entry.cause or "")
    assert {"x": 1} == emulator.result_calls


@unclosed
async def test_event_loop_that_ends_before_byte_zero_releases_the_job(
    emulator: Emulator, url: str
) -> None:
    emulator.add_job("x")
    store = MemoryLedger()
    pause = Pause()

    await _leave_when(pause.reached.is_set, url, Handle(store, before=on(Arm, pause)))

    assert ["known"] == states(store)
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
        left = states(ledger)
        result = await client.wait_for(request_id)

    assert ["known"] == left
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


@in_virtual_time
async def test_billed_call_cancelled_while_it_waits_for_a_slot_is_released(
    emulator: Emulator,
) -> None:
    blocking, wanted = emulator.add_job(), emulator.add_job()
    emulator.fault("status", Fault.hang(15), request_id=blocking)
    ledger = MemoryLedger()
    seen: list[Event] = []

    async with in_process(
        emulator, ledger=ledger, max_in_flight=1, hooks=[seen.append]
    ) as client:
        asking = asyncio.create_task(client.status(blocking))
        await asyncio.sleep(1)
        fetching = asyncio.create_task(client.result(wanted))
        await asyncio.sleep(1)
        for flight in client._engine.settler._flights.values():
            flight.task.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        asking.cancel()
        left = states(ledger)

    assert ["known"] == left
    assert [] == [event for event in seen if isinstance(event, ResultUncertain)]
    assert {} == emulator.result_calls
