"""`gather_results` and `as_completed`: many jobs in one client."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest
from support import ORIGIN, id_of, in_process, in_virtual_time

from modelmax_async import (
    BadRequestError,
    Failed,
    GatherError,
    Job,
    JobFailedError,
    JobTimeoutError,
    MemoryLedger,
    PollPolicy,
    Result,
    ResultUncertainError,
    Succeeded,
)
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_results_are_in_the_order_given(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=20 - n)) for n in range(20)]

    async with in_process(emulator) as client:
        results = await client.gather_results(iter(ids))

    assert ids == [result.request_id for result in results]


async def test_jobs_and_bare_ids_and_duplicates_are_served_once(emulator: Emulator) -> None:
    first, second = emulator.add_job(), emulator.add_job()

    async with in_process(emulator) as client:
        results = await client.gather_results([first, Job("veo-3", first), second, first])

    assert [first, first, second, first] == [result.request_id for result in results]
    assert {first: 1, second: 1} == emulator.result_calls


async def test_batch_without_a_limit_waits_for_hours(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=20_000))

    async with in_process(emulator) as client:
        (result,) = await client.gather_results([request_id], timeout=None)

    assert request_id == result.request_id


async def test_nothing_to_gather_is_an_empty_list(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        results = await client.gather_results([])
        outcomes = [outcome async for outcome in client.as_completed([])]

    assert [] == results
    assert [] == outcomes


async def test_failures_are_isolated_and_raised_after_all_have_ended(
    emulator: Emulator,
) -> None:
    good = emulator.add_job(script=JobScript(run_seconds=50))
    failed = emulator.add_job(script=JobScript(outcome="FAILED"))
    uncertain = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=uncertain)

    async with in_process(emulator) as client:
        with pytest.raises(GatherError) as caught:
            await client.gather_results([failed, good, "unknown", uncertain, failed])

    kinds = [JobFailedError, type(None), BadRequestError, ResultUncertainError, JobFailedError]

    assert kinds == [type(outcome.error) for outcome in caught.value.outcomes]
    assert good == id_of(caught.value.outcomes[1])
    assert isinstance(caught.value.outcomes[1].result, Result)
    assert 3 == len(caught.value.exceptions)
    assert 2 == emulator.billed_total


async def test_exceptions_are_in_their_places_with_return_exceptions(
    emulator: Emulator,
) -> None:
    good, failed = emulator.add_job(), emulator.add_job(script=JobScript(outcome="FAILED"))

    async with in_process(emulator) as client:
        ended = await client.gather_results([failed, good], return_exceptions=True)

    assert [JobFailedError, Result] == [type(end) for end in ended]


async def test_one_deadline_holds_for_all_jobs(emulator: Emulator) -> None:
    quick = emulator.add_job(script=JobScript(run_seconds=5))
    slow = [emulator.add_job(script=JobScript(run_seconds=500)) for _ in range(3)]

    async with in_process(emulator) as client:
        with pytest.raises(GatherError) as caught:
            await client.gather_results([quick, *slow], timeout=60)
        at = asyncio.get_running_loop().time()
        again = await client.gather_results([quick, *slow])

    assert 60.0 == at
    assert [JobTimeoutError] * 3 == [type(error) for error in caught.value.exceptions]
    assert 4 == len(again)
    assert {quick: 1} | dict.fromkeys(slow, 1) == emulator.result_calls


async def test_on_outcome_is_called_as_each_job_ends(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=30 - 10 * n)) for n in range(3)]
    heard: list[Succeeded | Failed] = []

    async with in_process(emulator) as client:
        await client.gather_results(ids, on_outcome=heard.append)

    assert list(reversed(ids)) == [id_of(outcome) for outcome in heard]


async def test_as_completed_yields_each_job_as_it_ends(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=30 - 10 * n)) for n in range(3)]
    ids.append(emulator.add_job(script=JobScript(outcome="FAILED")))

    async with in_process(emulator) as client:
        seen = [outcome async for outcome in client.as_completed([*ids, ids[0]])]

    assert [ids[3], ids[2], ids[1], ids[0]] == [id_of(outcome) for outcome in seen]
    assert isinstance(seen[0].error, JobFailedError)


async def test_as_completed_left_early_stops_polling_the_rest(emulator: Emulator) -> None:
    quick = emulator.add_job()
    slow = emulator.add_job(script=JobScript(run_seconds=1000))

    async with in_process(emulator) as client:
        outcomes = client.as_completed([quick, slow])
        first = await anext(outcomes)
        await outcomes.aclose()
        polls = emulator.polls[slow]
        await asyncio.sleep(500)

    assert quick == id_of(first)
    assert polls == emulator.polls[slow]


async def test_job_that_ends_after_the_deadline_stays_timed_out(emulator: Emulator) -> None:
    slow = emulator.add_job(script=JobScript(run_seconds=62))
    quick = emulator.add_job()
    seen: list[Succeeded | Failed] = []

    async with in_process(emulator, poll=PollPolicy(maximum=1)) as client:
        async for outcome in client.as_completed([slow, quick], timeout=60):
            seen.append(outcome)
            await asyncio.sleep(70)

    assert [type(None), JobTimeoutError] == [type(outcome.error) for outcome in seen]
    assert {quick: 1} == emulator.billed


@pytest.mark.untraced
async def test_gather_cancelled_in_the_middle_loses_nothing(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=n / 10)) for n in range(300)]
    for request_id in ids[::7]:
        emulator.fault("result", Fault.hang(3), request_id=request_id)
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger) as client:
        gathering = asyncio.create_task(client.gather_results(ids))
        await asyncio.sleep(12)
        gathering.cancel()
        await asyncio.gather(gathering, return_exceptions=True)
        await asyncio.sleep(5)
        stored = await ledger.entries(ORIGIN, {"stored"})
        billed = emulator.billed_total
        results = await client.gather_results(ids)

    assert 0 < billed < 300
    assert billed == len(stored)
    assert ids == [result.request_id for result in results]
    assert Counter(ids) == emulator.billed


@pytest.mark.untraced
@pytest.mark.timeout(120)  # real seconds, on a machine that does other things too
async def test_hundreds_of_jobs_over_hours(emulator: Emulator) -> None:
    """Each job takes only a few polls, so that thousands of calls fit into seconds."""
    chance = random.Random(4)
    emulator = Emulator(record=False)
    hour = 3600.0
    ids = [
        emulator.add_job(script=JobScript(run_seconds=chance.uniform(0, 4 * hour)))
        for _ in range(600)
    ]

    async with in_process(emulator, poll=PollPolicy(initial=hour, maximum=2 * hour)) as client:
        results = await client.gather_results(ids, timeout=None)
        hours = asyncio.get_running_loop().time() / 3600

    assert ids == [result.request_id for result in results]
    assert dict.fromkeys(ids, 1) == emulator.result_calls
    assert emulator.max_in_flight_seen <= 32
    assert 4 < hours < 8


async def test_bulk_waits_begin_at_random_moments(emulator: Emulator) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=100)) for _ in range(200)]

    async with in_process(emulator, poll=PollPolicy(initial=10, jitter=0)) as client:
        gathering = asyncio.create_task(client.gather_results(ids))
        await asyncio.sleep(5)
        first_half = len(emulator.polls)
        await asyncio.sleep(5)
        all_of_it = len(emulator.polls)
        gathering.cancel()

    assert 70 < first_half < 130
    assert 200 == all_of_it


@pytest.mark.untraced
async def test_waiting_jobs_cost_no_tasks(emulator: Emulator) -> None:
    emulator = Emulator(record=False, script=JobScript())
    ids = [emulator.add_job(script=JobScript(run_seconds=1000)) for _ in range(1000)]

    async with in_process(emulator) as client:
        gathering = asyncio.create_task(client.gather_results(ids))
        await asyncio.sleep(5)
        tasks = len(asyncio.all_tasks())
        gathering.cancel()

    assert tasks < 200


async def test_retry_after_pauses_the_whole_client_and_the_restart_is_spread(
    emulator: Emulator,
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=300)) for _ in range(20)]
    poll = PollPolicy(initial=5, maximum=5, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        gathering = asyncio.create_task(client.gather_results(ids))
        await asyncio.sleep(9)
        emulator.fault("status", Fault.error(429, retry_after="60"))
        await asyncio.sleep(2)
        paused_at = asyncio.get_running_loop().time()
        before = len(emulator.requests)
        await asyncio.sleep(57)
        during = len(emulator.requests)
        await asyncio.sleep(30)
        restarts = [r.at for r in emulator.requests[during : during + 20]]
        gathering.cancel()

    assert before == during
    assert min(restarts) >= paused_at + 57
    assert max(restarts) - min(restarts) > 2


@pytest.mark.untraced
async def test_repeated_429_halves_the_calls_in_flight_until_they_recover(
    emulator: Emulator,
) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=200)) for _ in range(64)]
    emulator.fault("status", Fault.error(429), times=6)

    async with in_process(emulator, poll=PollPolicy(initial=1, maximum=1)) as client:
        gathering = asyncio.create_task(client.gather_results(ids))
        await asyncio.sleep(1)
        schedule = client._engine.poller._schedule
        slowed = schedule._window
        await asyncio.sleep(25)
        recovered = schedule._window
        gathering.cancel()

    assert slowed < 16
    assert 32.0 == recovered


async def test_completed_jobs_are_fetched_while_others_are_still_polled(
    emulator: Emulator,
) -> None:
    """Forty jobs keep two slots busy: each response takes a second."""
    running = [emulator.add_job(script=JobScript(run_seconds=10_000)) for _ in range(40)]
    done = emulator.add_job()
    emulator.fault("status", Fault.hang(1), times=None)

    async with in_process(emulator, max_in_flight=2, timeout=60) as client:
        gathering = asyncio.create_task(client.gather_results(running))
        await asyncio.sleep(10)
        result = await client.wait_for(done, timeout=60)
        gathering.cancel()

    assert done == result.request_id
    assert 41 == len(emulator.polls)
