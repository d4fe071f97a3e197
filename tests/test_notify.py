"""`notify` polls a job at once."""

from __future__ import annotations

import asyncio

import pytest
from support import in_process, in_virtual_time

from modelmax_async import BadRequestError, PollPolicy
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_notify_polls_at_once(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=62))
    poll = PollPolicy(initial=60, maximum=600, factor=10, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        client.notify(request_id)
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(63)
        client.notify(request_id)
        await waiting
        at = asyncio.get_running_loop().time()

    assert 63.0 == pytest.approx(at, abs=0.5)


async def test_notify_before_the_first_poll_of_a_fresh_submit_is_not_lost(
    emulator: Emulator,
) -> None:
    emulator.script(JobScript())
    poll = PollPolicy(initial=600, maximum=600, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        job = await client.submit("a reef")
        waiting = asyncio.create_task(client.wait_for(job))
        await asyncio.sleep(0)
        client.notify(job)
        async with asyncio.timeout(5):
            await waiting

    assert {job.request_id: 1} == emulator.polls


async def test_notify_during_a_poll_polls_once_more(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(statuses=("IN_PROGRESS", "COMPLETED")))
    emulator.fault("status", Fault.hang(5))
    poll = PollPolicy(initial=600, maximum=600, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        client.notify(request_id)
        await waiting
        at = asyncio.get_running_loop().time()

    assert 5.0 == pytest.approx(at, abs=0.5)


async def test_notify_reaches_the_waiters_of_every_model(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=3))
    rarely = PollPolicy(initial=500, maximum=500, jitter=0)

    async with in_process(emulator, poll=rarely) as client:
        with pytest.raises(BadRequestError):
            await client.wait_for("no-such-job", model="veo-2")
        waiting = asyncio.create_task(client.wait_for(request_id, model="veo-3"))
        await asyncio.sleep(5)
        client.notify(request_id)
        async with asyncio.timeout(1):
            result = await waiting

    assert request_id == result.request_id
