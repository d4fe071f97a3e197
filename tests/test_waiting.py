"""`wait_for` polls the status, then makes one billed call, within its timeout."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support import STEADY, in_process, in_virtual_time

from modelmax_async import AsyncQueueClient, ClientStateError, JobTimeoutError, Status
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_completed_job_costs_n_polls_and_one_result_call(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(queue_seconds=1, run_seconds=3))

    async with in_process(emulator, poll=STEADY) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 4} == emulator.polls  # at 0, 1, 2.5 and 4.75 seconds
    assert {request_id: 1} == emulator.result_calls
    assert {request_id: 1} == emulator.billed


async def test_fresh_submit_is_first_polled_after_the_initial_interval(
    emulator: Emulator,
) -> None:
    async with in_process(emulator, poll=STEADY) as client:
        job = await client.submit("a reef")
        started = asyncio.get_running_loop().time()
        await client.wait_for(job)
        waited = asyncio.get_running_loop().time() - started

    assert 1.0 == pytest.approx(waited, abs=0.1)
    assert {job.request_id: 1} == emulator.polls


async def test_timeout_carries_the_job_and_waiting_again_works(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=60))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError) as caught:
            await client.wait_for(request_id, timeout=30)
        at = asyncio.get_running_loop().time()
        result = await client.wait_for(caught.value.job)

    assert 30.0 == at
    assert Status.IN_PROGRESS == caught.value.last_status
    assert isinstance(caught.value, TimeoutError)
    assert request_id == result.request_id
    assert 1 == emulator.billed_total


async def test_timeout_cuts_a_status_call_that_hangs(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(1000))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=5)
        at = asyncio.get_running_loop().time()

    assert 5.0 == at


async def test_polling_stops_when_the_last_waiter_leaves(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=1000))

    async with in_process(emulator) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=10)
        polls = emulator.polls[request_id]
        await asyncio.sleep(500)

    assert polls == emulator.polls[request_id]


async def test_visit_cancelled_from_outside_ends_its_waiters(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        for task in client._engine.tasks.others():
            task.cancel()
        with pytest.raises(ClientStateError, match="ended from outside"):
            await waiting
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


def _visits_of(client: AsyncQueueClient) -> set[asyncio.Task[Any]]:
    running = client._engine.tasks.others()
    return {task for task in running if "Poller._visit" in repr(task.get_coro())}


async def test_poll_cancelled_before_it_begins_ends_its_waiter(
    emulator: Emulator,
) -> None:
    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(emulator.add_job()))
        while not (polls := _visits_of(client)):
            await asyncio.sleep(0)
        for poll in polls:
            poll.cancel()
        async with asyncio.timeout(60):
            with pytest.raises(ClientStateError, match="from outside"):
                await waiting
        left = repr(client)

    assert "0 jobs" in left
