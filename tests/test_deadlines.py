"""A wait that ends before its next poll polls once more, just before its deadline."""

from __future__ import annotations

import asyncio

import pytest
from support import in_process, in_virtual_time

from modelmax_async import (
    AsyncQueueClient,
    GatherError,
    JobTimeoutError,
    MemoryLedger,
    PollPolicy,
    RetryPolicy,
)
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, StatusPolled

pytestmark = [pytest.mark.anyio, in_virtual_time]
RARELY = PollPolicy(initial=600, maximum=600, jitter=0)


class Polls:
    """Notes when each job is polled."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, StatusPolled):
            self.times.append(asyncio.get_running_loop().time())


async def wait_in_vain(
    client: AsyncQueueClient, request_id: str, timeout: float | None
) -> None:
    with pytest.raises(JobTimeoutError):
        await client.wait_for(request_id, timeout=timeout)


@pytest.mark.parametrize(
    ("timeout", "expected"),
    [(100.0, [0.0, 98.0]), (5.0, [0.0, 4.0]), (700.0, [0.0, 600.0, 698.0])],
)
async def test_last_poll_comes_just_before_the_deadline(
    emulator: Emulator, timeout: float, expected: list[float]
) -> None:
    request_id, polls = emulator.add_job(script=JobScript(run_seconds=10_000)), Polls()

    async with in_process(emulator, poll=RARELY, hooks=[polls]) as client:
        await wait_in_vain(client, request_id, timeout)

    assert expected == pytest.approx(polls.times, abs=0.01)


async def test_job_that_ends_between_the_polls_is_not_missed(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=50))

    async with in_process(emulator, poll=RARELY) as client:
        result = await client.wait_for(request_id, timeout=100)

    assert request_id == result.request_id


async def test_fresh_submit_is_polled_before_its_deadline_too(emulator: Emulator) -> None:
    emulator.script(JobScript(run_seconds=10))

    async with in_process(emulator, poll=RARELY) as client:
        result = await client.generate("a reef", timeout=30)

    assert {result.request_id: 1} == emulator.polls


async def test_each_of_several_deadlines_gets_its_poll(emulator: Emulator) -> None:
    request_id, polls = emulator.add_job(script=JobScript(run_seconds=10_000)), Polls()

    async with in_process(emulator, poll=RARELY, hooks=[polls]) as client:
        waits = [wait_in_vain(client, request_id, timeout) for timeout in (300.0, 100.0, 200.0)]
        await asyncio.gather(*waits)

    assert [0.0, 98.0, 198.0, 298.0] == pytest.approx(polls.times, abs=0.01)


async def test_callers_who_come_one_after_the_other_share_their_last_polls(
    emulator: Emulator,
) -> None:
    """A web application may have hundreds of requests that wait for the same job."""
    request_id, polls = emulator.add_job(script=JobScript(run_seconds=10_000)), Polls()

    async with in_process(emulator, poll=RARELY, hooks=[polls]) as client:
        waits = []
        for _ in range(500):
            waits.append(asyncio.create_task(wait_in_vain(client, request_id, 20)))
            await asyncio.sleep(0.01)
        await asyncio.gather(*waits)

    assert len(polls.times) <= 5


async def test_large_batch_gets_stored_results_at_once(emulator: Emulator) -> None:
    ids = [emulator.add_job() for _ in range(100)]
    ledger = MemoryLedger()
    async with in_process(emulator, ledger=ledger) as client:
        await client.gather_results(ids)

    async with in_process(emulator, ledger=ledger, poll=RARELY) as client:
        start = asyncio.get_running_loop().time()
        results = await client.gather_results(ids, timeout=0.5)
        took = asyncio.get_running_loop().time() - start

    assert ids == [result.request_id for result in results]
    assert took < 0.1
    assert dict.fromkeys(ids, 1) == emulator.billed


async def test_large_batch_is_polled_before_a_deadline_that_ends_its_spread(
    emulator: Emulator,
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=2)) for _ in range(100)]

    async with in_process(emulator, poll=RARELY) as client:
        results = await client.gather_results(ids, timeout=30)

    assert 100 == len(results)


async def test_caller_who_joins_with_an_earlier_deadline_is_served(
    emulator: Emulator,
) -> None:
    request_id, polls = emulator.add_job(script=JobScript(run_seconds=10_000)), Polls()

    async with in_process(emulator, poll=RARELY, hooks=[polls]) as client:
        first = asyncio.create_task(wait_in_vain(client, request_id, 500))
        await asyncio.sleep(20)
        await wait_in_vain(client, request_id, 50)
        first.cancel()

    assert [0.0, 68.0] == pytest.approx(polls.times, abs=0.01)


async def test_caller_who_joins_with_a_later_deadline_changes_nothing(
    emulator: Emulator,
) -> None:
    request_id, polls = emulator.add_job(script=JobScript(run_seconds=10_000)), Polls()

    async with in_process(emulator, poll=RARELY, hooks=[polls]) as client:
        first = asyncio.create_task(wait_in_vain(client, request_id, 100))
        await asyncio.sleep(20)
        second = asyncio.create_task(client.wait_for(request_id, timeout=500))
        await first
        second.cancel()

    assert [0.0, 98.0] == pytest.approx(polls.times, abs=0.01)


async def test_last_polls_of_a_batch_are_spread(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=10_000)) for _ in range(200)]
    polls = Polls()

    async with in_process(emulator, poll=RARELY, hooks=[polls]) as client:
        with pytest.raises(GatherError):
            await client.gather_results(ids, timeout=590)
    last = sorted(time for time in polls.times if time > 575)
    most = max(sum(start <= time < start + 0.5 for time in last) for start in last)

    assert 200 == pytest.approx(len(last), abs=5), "each job is polled in the last seconds"
    assert most < 50
    assert last[-1] < 589


async def test_deadline_does_not_override_a_retry_after(
    emulator: Emulator,
) -> None:
    request_id, polls = emulator.add_job(script=JobScript(run_seconds=10_000)), Polls()
    emulator.fault("status", Fault.error(429, retry_after="300"))

    async with in_process(
        emulator, poll=RARELY, hooks=[polls], retry=RetryPolicy(give_up_after=1e6)
    ) as client:
        await wait_in_vain(client, request_id, 100)

    assert [] == polls.times
