"""One visit of a job: what it asks, what it spares, and when it says to come back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs
import pytest
from ledgers import Seen
from support import in_process, in_virtual_time, late

from modelmax_async import (
    AsyncQueueClient,
    InconsistentStateError,
    InsufficientBalanceError,
    MemoryLedger,
    PollPolicy,
    ResultUncertainError,
    RetryPolicy,
)
from modelmax_async._api.paths import make_job
from modelmax_async._polling.job import PolledJob
from modelmax_async._polling.observation import Observation
from modelmax_async._runtime import clock
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, StatusPolled
from modelmax_async.ledger import Claim, Key, Release, Remember

pytestmark = [pytest.mark.anyio, in_virtual_time]
RARELY = PollPolicy(initial=600, maximum=600, jitter=0)
STEADY = PollPolicy(initial=10, maximum=10, jitter=0)


def now() -> float:
    return asyncio.get_running_loop().time()


def saying(status: str) -> Fault:
    return Fault.raw(200, json.dumps({"status": status}).encode(), processed=False)


def key_of(request_id: str) -> Key:
    return Key("http://127.0.0.1:80", request_id)


async def watch(client: AsyncQueueClient, request_id: str) -> list[Any]:
    return [report.status async for report in client.watch(request_id)]


async def test_watching_asks_the_ledger_nothing(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=30))
    store = Seen()

    async with in_process(emulator, ledger=store) as client:
        await watch(client, request_id)

    assert [] == store.kinds


async def test_job_is_recorded_once_however_often_it_is_polled(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=50))
    store = Seen()

    async with in_process(emulator, ledger=store, poll=STEADY) as client:
        await client.wait_for(request_id)

    assert {request_id: 6} == emulator.polls
    assert ["Look", "Remember", "Claim", "Arm", "Store"] == store.kinds


async def test_job_that_was_recorded_at_its_submit_is_not_recorded_again(
    emulator: Emulator,
) -> None:
    store = Seen()

    async with in_process(emulator, ledger=store) as client:
        await client.wait_for(await client.submit("a reef"))

    assert ["Remember", "Look", "Claim", "Arm", "Store"] == store.kinds


async def test_job_that_was_only_claimed_before_is_recorded_when_the_server_knows_it(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))
    job = make_job("veo-3", request_id)
    store = Seen()
    await store.apply(key_of(request_id), Claim(job, "other", "a1", 10.0))
    await store.apply(key_of(request_id), Release("a1"))

    async with in_process(emulator, ledger=store) as client:
        await client.wait_for(request_id)

    assert 1 == store.kinds.count("Remember")


async def test_what_the_ledger_knows_to_be_over_is_not_polled(emulator: Emulator) -> None:
    stored, unsure = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=unsure)

    async with in_process(emulator) as client:
        first = await client.wait_for(stored)
        with pytest.raises(ResultUncertainError):
            await client.wait_for(unsure)
        polls = dict(emulator.polls)
        again = await client.wait_for(stored)
        with pytest.raises(ResultUncertainError):
            await client.wait_for(unsure)

    assert first == again
    assert {stored: 1, unsure: 1} == polls == emulator.polls


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (-5.0, [0.0, 2.0, 12.0]),
        (0.0, [2.0, 12.0]),
        (0.5, [1.5, 11.5]),
        (2.0, [0.0, 2.0, 12.0]),
        (100.0, [0.0, 2.0, 12.0]),
    ],
)
async def test_first_poll_comes_one_interval_after_the_submit(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, age: float, expected: list[float]
) -> None:
    """What was submitted long ago, or by a clock that was ahead, is asked for at once."""
    request_id = emulator.add_job(script=JobScript(run_seconds=10))
    polled: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, StatusPolled):
            polled.append(now())

    monkeypatch.setattr(clock, "wall", lambda: 1e9)
    store = MemoryLedger()
    job = attrs.evolve(make_job("veo-3", request_id), submitted_at=1e9)
    await store.apply(key_of(request_id), Remember(job))
    monkeypatch.setattr(clock, "wall", lambda: 1e9 + age)

    poll = PollPolicy(initial=2.0, factor=5.0, maximum=100.0, jitter=0.0)
    async with in_process(emulator, ledger=store, poll=poll, hooks=[note]) as client:
        await client.wait_for(request_id)

    assert expected == polled


async def test_job_that_another_client_has_claimed_just_now_is_polled_at_once(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", run_seconds=5))
    store = MemoryLedger()
    job = make_job("veo-3", request_id)
    await store.apply(key_of(request_id), Claim(job, "other", "a1", 10.0))

    async with in_process(emulator, ledger=store, poll=RARELY) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        waiting.cancel()

    assert {request_id: 1} == emulator.polls


async def test_fresh_job_that_was_watched_already_is_polled_for_who_wants_its_result(
    emulator: Emulator,
) -> None:
    emulator.script(JobScript(run_seconds=500))

    async with in_process(emulator, poll=RARELY) as client:
        job = await client.submit("a reef")
        watching = asyncio.create_task(watch(client, job.request_id))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(client.wait_for(job))
        await asyncio.sleep(1)
        polls = dict(emulator.polls)
        for task in (watching, waiting):
            task.cancel()

    assert {job.request_id: 2} == polls


async def test_who_joins_a_watched_job_as_it_ends_gets_its_result_without_delay(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(5))

    async with in_process(emulator) as client:
        watching = asyncio.create_task(watch(client, request_id))
        await asyncio.sleep(1)
        await client.wait_for(request_id)
        at = now()
        await watching

    assert 5.0 == at
    assert {request_id: 1} == emulator.polls


async def test_job_that_the_server_told_a_watcher_of_is_recorded_with_the_claim(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(5))
    emulator.fault("result", Fault.error(402, type="insufficient_balance"))

    async with in_process(emulator) as client:
        watching = asyncio.create_task(watch(client, request_id))
        await asyncio.sleep(1)
        with pytest.raises(InsufficientBalanceError):
            await client.wait_for(request_id)
        pending = await client.pending()
        await watching

    assert [make_job("veo-3", request_id)] == pending


async def test_fetch_that_cost_nothing_is_tried_again_without_another_poll(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(503), times=2)

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.polls
    assert {request_id: 3} == emulator.result_calls


@pytest.mark.parametrize("lost", [1, 5])
async def test_wait_that_refetches_pays_once_more_at_most(
    emulator: Emulator, lost: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=lost)

    retry = RetryPolicy(initial=5, factor=1000, maximum=5000)
    async with in_process(emulator, on_uncertain="refetch", retry=retry) as client:
        (ended,) = await client.gather_results([request_id], return_exceptions=True)

    assert (lost == 5) is isinstance(ended, ResultUncertainError)
    assert {request_id: 2} == emulator.result_calls
    assert {request_id: 1} == emulator.polls
    assert now() <= 5  # the backoff of a first failure


async def test_result_that_says_it_still_runs_is_asked_for_after_the_next_good_status(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", saying("IN_PROGRESS"), times=2)

    async with in_process(emulator) as client:
        await client.wait_for(request_id)

    assert {request_id: 3} == emulator.polls
    assert {request_id: 3} == emulator.result_calls


async def test_disagreement_is_measured_from_the_status_that_said_completed(
    emulator: Emulator,
) -> None:
    """Not from the start of the wait, nor from an earlier one that was taken back."""
    request_id = emulator.add_job()
    for status in ["IN_PROGRESS"] * 8 + ["COMPLETED"] + ["IN_PROGRESS"] * 8:
        emulator.fault("status", saying(status))
    emulator.fault("result", saying("IN_PROGRESS"), times=3)

    async with in_process(emulator, poll=STEADY) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 4} == emulator.result_calls


async def test_disagreement_of_a_minute_is_not_yet_too_long(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", saying("IN_PROGRESS"), times=None)
    poll = PollPolicy(initial=60, maximum=60, jitter=0)

    async with in_process(emulator, poll=poll) as client:
        with pytest.raises(InconsistentStateError):
            await client.wait_for(request_id)

    assert {request_id: 3} == emulator.result_calls


async def test_job_that_another_client_fetches_is_looked_at_ever_more_rarely(
    emulator: Emulator,
) -> None:
    job = make_job("veo-3", "reef")
    polled = PolledJob(job, key_of("reef"), 0.0, Observation.start(job, 0.0, 0.0))

    async with in_process(emulator) as client:
        visits = client._engine.poller._visits
        visits._backoff._retry = attrs.evolve(visits._backoff._retry, random=lambda: 0.5)
        delays = [visits._backoff.held(polled) for _ in range(2000)]

    assert [0.1, 0.2, 0.4] + [0.5] * 1997 == delays


async def test_stored_answer_is_served_at_a_failed_status_without_a_claim(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", late(saying("FAILED"), 5))
    store = Seen()

    async with (
        in_process(emulator, ledger=store) as one,
        in_process(emulator, ledger=store) as other,
    ):
        waiting = asyncio.create_task(other.wait_for(request_id))
        await asyncio.sleep(1)
        paid = await one.result(request_id)
        result = await waiting

    assert paid == result
    assert 1 == store.kinds.count("Claim")
