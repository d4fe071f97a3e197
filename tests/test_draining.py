"""Closing lets billed calls end, within a bound, and keeps their results."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import httpx
import pytest
from ledgers import Handle, Pause, fail, forever, on, once, refuse, states
from support import closed_after, in_process, in_virtual_time, on_socket, until

from modelmax_async import ClientStateError, MemoryLedger, Result
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import Arm, Claim, Move, Store

pytestmark = pytest.mark.anyio


@in_virtual_time
async def test_cancelling_the_closer_does_not_shorten_the_drain(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(20))
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await until(lambda: emulator.billed_total)
        closing = asyncio.create_task(client.aclose())
        for _ in range(3):
            await asyncio.sleep(1)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        result = await waiting

    assert isinstance(result, Result)
    assert ["stored"] == states(ledger)


@in_virtual_time
async def test_drain_is_bounded_and_records_an_unfinished_call_as_uncertain(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(10_000))
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger, timeout=30) as client:
        # An HTTP client of the caller may have no read timeout that ends this call.
        transport = client._engine.http
        transport._limits = attrs.evolve(transport._limits, extensions={"timeout": {}})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.wait_for(request_id), 5)
        closed_at = asyncio.get_running_loop().time()
    took = asyncio.get_running_loop().time() - closed_at

    assert 30 == pytest.approx(took, abs=1)
    assert ["uncertain"] == states(ledger)


@in_virtual_time
@pytest.mark.parametrize(("begun", "phase"), [(False, "sent"), (True, "answered")])
async def test_unfinished_call_is_recorded_as_far_as_it_got(*, begun: bool, phase: str) -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            await forever()

    async def answer(_: httpx.Request) -> httpx.Response:
        if not begun:
            await forever()
        return httpx.Response(200, stream=Endless())

    ledger = MemoryLedger()
    transport = httpx.MockTransport(answer)
    options: dict[str, Any] = {"http_client": transport, "ledger": ledger, "timeout": 30}
    async with on_socket("http://127.0.0.1", **options) as client:
        asking = asyncio.create_task(client.result("reef"))
        await asyncio.sleep(1)
        await client._engine.settler.drain(1)
        await asyncio.gather(asking, return_exceptions=True)
        (entry,) = await client.unresolved()

    assert phase == entry.phase


async def test_drain_does_not_wait_for_a_disk_that_hangs(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response body too large for memory is written to a file, and the write may hang."""
    begun, end = threading.Event(), threading.Event()

    def hang_sync(_: int) -> None:
        begun.set()
        end.wait(10)

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.fsync", hang_sync)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * 1024 * 1024))
    ledger = MemoryLedger()
    client = on_socket(url, ledger=ledger, timeout=0.5)
    waiting = asyncio.create_task(client.wait_for(request_id))
    await asyncio.to_thread(begun.wait, 5)
    async with asyncio.timeout(5):
        await client.aclose()
        await asyncio.wait([waiting])
    left = states(ledger)
    end.set()

    assert ["uncertain"] == left
    assert isinstance(waiting.exception(), ClientStateError)


async def test_closing_in_a_cancelled_scope_does_not_spin(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """anyio cancels a task in a cancelled scope again at every turn of the event loop."""
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
    await until(lambda: emulator.result_calls)
    monkeypatch.setattr(asyncio, "wait", wait)
    with anyio.move_on_after(0.05):
        await client.aclose()
    result = await waiting

    assert isinstance(result, Result)
    assert turns < 20


@in_virtual_time
async def test_closing_before_byte_zero_releases_the_claim(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    store = MemoryLedger()
    pause = Pause()

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, pause))) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await pause.reached.wait()
        await client.aclose()
        with pytest.raises(Exception, match="closed"):
            await waiting

    assert ["known"] == states(store)
    assert {} == emulator.result_calls


@in_virtual_time
async def test_close_while_a_call_is_armed_sends_no_call(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    pause = Pause()
    ledger = Handle(MemoryLedger(), before=on(Arm, pause))

    async with in_process(emulator, ledger=ledger) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await pause.reached.wait()
        await client.aclose()
        await asyncio.gather(waiting, return_exceptions=True)

    assert {} == emulator.result_calls


@in_virtual_time
async def test_results_that_cannot_be_stored_are_retried_together_and_reported(
    emulator: Emulator,
) -> None:
    """The ledger takes ten seconds to refuse each of twelve results."""
    jobs = [emulator.add_job() for _ in range(12)]
    seen: list[Event] = []

    async def refuse_late(move: Move) -> None:
        await asyncio.sleep(10)
        await fail(move)

    ledger = Handle(MemoryLedger(), before=on(Store, refuse_late))
    async with in_process(emulator, ledger=ledger, hooks=[seen.append]) as client:
        results = await client.gather_results(jobs)
        seconds = await closed_after(client)

    lost = [e.job.request_id for e in seen if isinstance(e, LedgerFailed) and "lost" in e.cause]

    assert jobs == [result.request_id for result in results]
    assert sorted(jobs) == sorted(lost)
    assert seconds < 20
    assert dict.fromkeys(jobs, 1) == emulator.billed


@in_virtual_time
async def test_paid_response_is_stored_though_closing_cut_the_first_attempt(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    pause = Pause(60)
    ledger = Handle(store, before=on(Store, once(pause)))

    async with in_process(emulator, ledger=ledger, timeout=0.3) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        await pause.reached.wait()
        await client.aclose()
        await asyncio.gather(waiting, return_exceptions=True)

    assert ["stored"] == states(store)


@in_virtual_time
async def test_paid_response_that_closing_could_not_store_is_reported(
    emulator: Emulator,
) -> None:
    ledger = Handle(MemoryLedger(), before=on(Store, refuse))
    seen: list[Event] = []

    async with in_process(emulator, ledger=ledger, hooks=[seen.append]) as client:
        await client.wait_for(emulator.add_job())

    causes = [event.cause for event in seen if isinstance(event, LedgerFailed)]

    assert 2 == len(causes)
    assert "still not stored" in causes[-1]


@in_virtual_time
async def test_paid_response_survives_two_cancellations_of_all_tasks(
    emulator: Emulator,
) -> None:
    """All tasks are cancelled while the result is stored, and again while the client closes."""
    request_id = emulator.add_job()
    store = MemoryLedger()
    pause = Pause(10_000)
    ledger = Handle(store, before=on(Store, once(pause)))

    async with in_process(emulator, ledger=ledger) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await pause.reached.wait()
        for task in client._engine.tasks.others():
            task.cancel()
        closing = asyncio.create_task(client.aclose())
        await asyncio.sleep(0)
        for task in client._engine.tasks.others():
            task.cancel()
        await closing
        await asyncio.gather(waiting, return_exceptions=True)

    assert ["stored"] == states(store)
    assert {request_id: 1} == emulator.billed
