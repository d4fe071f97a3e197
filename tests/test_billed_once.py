"""One billed call per job, however many coroutines want its result."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from support import STEADY, in_process, in_virtual_time, on_socket

from modelmax_async import Job, Result
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio


async def test_thousand_waiters_share_one_billed_call(emulator: Emulator, url: str) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=0.2))

    async with on_socket(url) as client:
        results = await asyncio.gather(*(client.wait_for(request_id) for _ in range(1000)))

    assert [results[0]] * 1000 == results
    assert {request_id: 1} == emulator.billed


async def test_wait_for_result_and_gather_share_one_billed_call(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()

    async with on_socket(url) as client:
        result, same, (gathered,) = await asyncio.gather(
            client.wait_for(request_id),
            client.result(request_id),
            client.gather_results([request_id]),
        )

    assert result == same == gathered
    assert {request_id: 1} == emulator.result_calls


async def test_job_from_another_machine_can_be_waited_for_here(
    emulator: Emulator, url: str
) -> None:
    async with on_socket(url) as client:
        sent = (await client.submit("a reef")).to_dict()

    async with on_socket(url, model=None) as client:
        result = await client.wait_for(Job.from_dict(sent))

    assert isinstance(result, Result)
    assert Counter({result.request_id: 1}) == emulator.billed


@in_virtual_time
async def test_hundred_waiters_share_polls_and_one_billed_call(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=4))

    async with in_process(emulator, poll=STEADY) as client:
        results = await asyncio.gather(*(client.wait_for(request_id) for _ in range(100)))

    assert [results[0]] * 100 == results
    assert {request_id: 4} == emulator.polls
    assert {request_id: 1} == emulator.billed


@in_virtual_time
async def test_ninety_nine_cancelled_and_the_last_still_gets_it(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=4))

    async with in_process(emulator) as client:
        waiters = [asyncio.create_task(client.wait_for(request_id)) for _ in range(100)]
        await asyncio.sleep(2)
        for waiter in waiters[:99]:
            waiter.cancel()
        ended = await asyncio.gather(*waiters, return_exceptions=True)

    assert [asyncio.CancelledError] * 99 == [type(end) for end in ended[:99]]
    assert isinstance(ended[99], Result)
    assert {request_id: 1} == emulator.billed


@in_virtual_time
async def test_new_waiter_joins_the_visit_that_the_last_one_left(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))
    emulator.fault("status", Fault.hang(3))

    async with in_process(emulator) as client:
        leaving = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.sleep(0.1)
        joining = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0.1)
        jobs = repr(client)
        result = await joining

    assert "1 jobs" in jobs
    assert {request_id: 1} == emulator.billed
    assert request_id == result.request_id


@in_virtual_time
async def test_job_reported_as_timed_out_is_not_fetched_later(emulator: Emulator) -> None:
    """An expired member of a batch stays subscribed as long as the consumer is busy."""
    request_id = emulator.add_job(script=JobScript(run_seconds=60))

    async with in_process(emulator) as client:
        stream = client.as_completed([request_id], timeout=5)
        outcome = await anext(stream)
        await asyncio.sleep(300)  # the consumer does something long
        calls = dict(emulator.result_calls)
        await stream.aclose()

    assert isinstance(outcome.error, TimeoutError)
    assert {} == calls
