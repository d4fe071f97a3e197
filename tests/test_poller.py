"""One stream of visits for each job: who starts it, who shares it, and what ends it."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from support import in_process, in_virtual_time, late

from modelmax_async import (
    AsyncQueueClient,
    JobTimeoutError,
    MemoryLedger,
    PollPolicy,
    Result,
    ResultUncertainError,
    Status,
    StatusReport,
)
from modelmax_async._api.paths import make_job
from modelmax_async._polling.job import End, PolledJob, Watched
from modelmax_async._polling.observation import Observation
from modelmax_async._polling.poller import Poller
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, StatusPolled
from modelmax_async.ledger import Key

pytestmark = [pytest.mark.anyio, in_virtual_time]
RARELY = PollPolicy(initial=600, maximum=600, jitter=0)
LONG = JobScript(run_seconds=5000)


class Watcher:
    """A subscriber that keeps what it is told."""

    bills = False
    last_poll: float | None = None
    gap = 0.0

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        self.told: list[Any] = []

    def on_status(self, report: StatusReport) -> None:
        self.told.append(report.status)

    def on_end(self, end: End) -> None:
        self.told.append((end, repr(self.poller)))


def now() -> float:
    return asyncio.get_running_loop().time()


def poller_of(client: AsyncQueueClient) -> Poller:
    return client._engine.poller


def waiting_in(client: AsyncQueueClient, request_id: str) -> asyncio.Task[Result]:
    return asyncio.create_task(client.wait_for(request_id))


async def leave(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_batch_spreads_its_first_visits_and_then_keeps_to_the_intervals(
    emulator: Emulator,
) -> None:
    jobs = [emulator.add_job(script=JobScript(run_seconds=12)) for _ in range(2)]
    polled: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, StatusPolled) and event.job.request_id == jobs[0]:
            polled.append(now())

    poll = PollPolicy(initial=2.0, factor=5.0, maximum=100.0, jitter=0.0)
    async with in_process(emulator, poll=poll, hooks=[note], max_in_flight=1) as client:
        backoff = poller_of(client)._backoff
        backoff._retry = attrs.evolve(backoff._retry, random=lambda: 0.25)
        await client.gather_results(jobs)

    assert [0.5, 2.5, 12.5] == polled


async def test_first_who_wants_the_result_has_the_ledger_asked_at_once(
    emulator: Emulator,
) -> None:
    """Until then the job was only watched, and its next poll is far away."""
    request_id = emulator.add_job()
    emulator.fault("status", Fault.raw(200, b'{"status": "IN_PROGRESS"}'))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=store, poll=RARELY) as client,
        in_process(emulator, ledger=store) as other,
    ):
        poller_of(client).subscribe(make_job("veo-3", request_id), Watcher(poller_of(client)))
        await asyncio.sleep(1)
        stored = await other.result(request_id)
        polls = dict(emulator.polls)
        asked = now()
        result = await client.wait_for(request_id)
        waited = now() - asked

    assert stored == result
    assert 0 == waited
    assert polls == emulator.polls


@pytest.mark.parametrize("first", ["watcher", "waiter"])
async def test_those_who_come_later_cause_no_poll(emulator: Emulator, first: str) -> None:
    request_id = emulator.add_job(script=LONG)
    job = make_job("veo-3", request_id)

    async with in_process(emulator, poll=RARELY) as client:
        poller = poller_of(client)
        waits = []
        for _ in range(3):
            if first == "watcher":
                poller.subscribe(job, Watcher(poller))
            else:
                waits.append(waiting_in(client, request_id))
            await asyncio.sleep(10)
        await leave(*waits)

    assert {request_id: 1} == emulator.polls


async def test_who_comes_during_a_visit_starts_no_second_one(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=LONG)
    emulator.fault("status", Fault.hang(5))

    async with in_process(emulator, poll=RARELY) as client:
        poller = poller_of(client)
        poller.subscribe(make_job("veo-3", request_id), Watcher(poller))
        await asyncio.sleep(1)
        waiting = waiting_in(client, request_id)
        await asyncio.sleep(1)
        state, polls = repr(poller), dict(emulator.polls)
        await leave(waiting)

    assert "1 jobs" in state
    assert "1 of" in state
    assert {request_id: 1} == polls


async def test_who_comes_later_hears_the_last_status_at_once(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=LONG)
    job = make_job("veo-3", request_id)

    async with in_process(emulator, poll=RARELY) as client:
        poller = poller_of(client)
        poller.subscribe(job, Watcher(poller))
        await asyncio.sleep(1)
        late = Watcher(poller)
        poller.subscribe(job, late)
        told = list(late.told)

    assert [Status.IN_PROGRESS] == told


async def test_visit_under_way_is_shared_by_who_comes_after_the_last_one_left(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=LONG)
    emulator.fault("status", Fault.hang(5))

    async with in_process(emulator, poll=RARELY) as client:
        leaving = waiting_in(client, request_id)
        await asyncio.sleep(1)
        await leave(leaving)
        joining = waiting_in(client, request_id)
        await asyncio.sleep(1)
        polls = dict(emulator.polls)
        await leave(joining)

    assert {request_id: 1} == polls


async def test_nothing_is_left_of_a_job_that_nobody_waits_for(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=LONG)

    async with in_process(emulator, poll=RARELY) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=10)
        state = repr(poller_of(client))

    assert "0 jobs" in state
    assert "0 due" in state


async def test_nothing_is_left_of_a_job_whose_last_waiter_left_during_a_visit(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", late(Fault.raw(200, b'{"status": "IN_PROGRESS"}'), 5))

    async with in_process(emulator, poll=RARELY) as client:
        poller = poller_of(client)
        watcher = Watcher(poller)
        wait = poller.subscribe(make_job("veo-3", request_id), watcher)
        await asyncio.sleep(1)
        poller.unsubscribe(wait, watcher)
        await asyncio.sleep(10)
        state = repr(poller)
        async with asyncio.timeout(1):
            result = await client.wait_for(request_id)

    assert "0 jobs" in state
    assert "0 due" in state
    assert request_id == result.request_id


async def test_job_whose_last_waiter_left_as_a_visit_ended_is_not_visited_again(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=LONG)

    async with in_process(emulator, poll=RARELY) as client:
        poller = poller_of(client)
        polled = poller.subscribe(make_job("veo-3", request_id), Watcher(poller))
        polled.subscribers.clear()  # as when the last one leaves while a visit is under way
        await asyncio.sleep(1)

        assert "0 jobs" in repr(poller)
    assert {} == emulator.polls


async def test_no_poll_begins_while_the_client_closes(emulator: Emulator) -> None:
    paid, running = emulator.add_job(), emulator.add_job(script=LONG)
    emulator.fault("result", Fault.hang(20), request_id=paid)

    async with in_process(emulator) as client:
        waits = [waiting_in(client, job) for job in (paid, running)]
        await asyncio.sleep(1)
        before = emulator.polls[running]
        await client.aclose()
        await asyncio.gather(*waits, return_exceptions=True)

    assert 20 <= now()
    assert before == emulator.polls[running]


async def test_notify_during_a_poll_causes_one_more_and_no_stream_of_them(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=LONG)
    emulator.fault("status", Fault.hang(5))

    async with in_process(emulator, poll=RARELY) as client:
        waiting = waiting_in(client, request_id)
        await asyncio.sleep(1)
        client.notify(request_id)
        async with asyncio.timeout(100):
            await asyncio.sleep(50)
        polls = dict(emulator.polls)
        await leave(waiting)

    assert {request_id: 2} == polls


async def test_error_of_a_job_says_what_its_status_was(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with in_process(emulator) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)

    assert Status.COMPLETED == caught.value.last_status


async def test_wait_is_over_before_anybody_is_told_of_it(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        poller = poller_of(client)
        watcher = Watcher(poller)
        poller.subscribe(make_job("veo-3", request_id), watcher)
        await asyncio.sleep(1)

    status, (end, state) = watcher.told
    assert (Status.COMPLETED, Watched()) == (status, end)
    assert "0 jobs" in state


async def test_those_who_want_the_result_are_told_of_its_end_once(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        poller = poller_of(client)
        watching, billing = Watcher(poller), Watcher(poller)
        billing.bills = True
        job = make_job("veo-3", "reef")
        polled = PolledJob(job, Key("", "reef"), 0.0, Observation.start(job, 0.0, 0.0))
        polled.subscribers |= {watching: None, billing: None}

        others_watch = polled.end_billing(KeyError("uncertain"))
        none_left = polled.end_billing(KeyError("again"))

    assert (True, True) == (others_watch, none_left)
    assert [watching] == list(polled.subscribers)
    assert (1, 0) == (len(billing.told), len(watching.told))
