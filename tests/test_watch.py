"""`watch` yields each change of the status, and never makes a billed call."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import STEADY, in_process, in_virtual_time, left_uncertain

from modelmax_async import BadRequestError, MemoryLedger, Status
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_watch_yields_each_change_and_never_bills(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(queue_seconds=20, run_seconds=20))

    async with in_process(emulator) as client:
        seen = [report.status async for report in client.watch(request_id)]

    assert [Status.IN_QUEUE, Status.IN_PROGRESS, Status.COMPLETED] == seen
    assert {} == emulator.result_calls


async def test_watch_of_a_failed_job_ends_with_its_report(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))

    async with in_process(emulator) as client:
        seen = [report async for report in client.watch(request_id)]

    assert ["no"] == [report.error for report in seen]


async def test_watch_raises_the_error_that_ends_the_polling(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError):
            async for _ in client.watch("no-such-job"):
                pass


async def test_watching_and_waiting_share_the_polls(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=30))

    async with in_process(emulator, poll=STEADY) as client:

        async def watched() -> list[Any]:
            return [report.status async for report in client.watch(request_id)]

        watcher = asyncio.create_task(watched())
        await asyncio.sleep(12)
        result, seen = await asyncio.gather(client.wait_for(request_id), watcher)

    assert request_id == result.request_id
    assert [Status.IN_PROGRESS, Status.COMPLETED] == seen
    assert {request_id: 1} == emulator.billed
    assert emulator.polls[request_id] < 12


async def test_watch_reports_a_result_that_the_ledger_has(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        await client.wait_for(request_id)
        emulator.fault("status", Fault.hang(20))
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0)
        seen = [report.status async for report in client.watch(request_id)]
        await waiting

    assert [Status.COMPLETED] == seen


async def test_watch_reports_a_failure_that_the_ledger_has(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))

    async with in_process(emulator) as client:
        waits = [client.wait_for(request_id), client.wait_for(request_id)]
        for wait in waits:
            waiting = asyncio.create_task(wait)
            await asyncio.sleep(0)
            seen = [report.error async for report in client.watch(request_id)]
            await asyncio.gather(waiting, return_exceptions=True)

    assert ["no"] == seen
    assert {request_id: 1} == emulator.polls


async def test_watch_does_not_end_because_the_result_is_uncertain(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)

    async with in_process(emulator, ledger=store) as client:
        watching = client.watch(request_id)
        looking = asyncio.create_task(anext(watching))
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.gather(waiting, return_exceptions=True)
        (ended,) = await asyncio.gather(looking, return_exceptions=True)
        await watching.aclose()

    assert not isinstance(ended, Exception)
