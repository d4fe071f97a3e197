"""A ledger that tells of changes wakes whoever waits for a job that another client ended."""

from __future__ import annotations

import asyncio
import time

import pytest
from support import in_process, in_virtual_time, on_socket, two_clients

from modelmax_async import (
    JobFailedError,
    MemoryLedger,
    PollPolicy,
    PostgresLedger,
    ResultUncertainError,
)
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator, JobScript
from modelmax_async.ledger import (
    Arm,
    Claim,
    Key,
    Move,
    Step,
    Store,
    SubmitKey,
    SubmitStep,
    Uncertain,
)

pytestmark = pytest.mark.anyio
BODY = b'{"status": "COMPLETED", "data": [{"url": "/v1/content/0"}]}'
ORIGIN = "http://127.0.0.1:80"
SLOW = PollPolicy(initial=600, maximum=600, jitter=0)


class Telling(MemoryLedger):
    """Tells of every move, so that a waiter must look what has become of the job."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited: list[tuple[Key, asyncio.Future[None]]] = []

    def changed(self, key: Key) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        self.awaited.append((key, future))
        return future

    def tell(self) -> None:
        awaited, self.awaited = self.awaited, []
        for _, future in awaited:
            if not future.done():
                future.set_result(None)

    async def apply(self, key: Key | SubmitKey, move: Move) -> Step | SubmitStep | None:
        done = await super().apply(key, move)
        if not isinstance(key, SubmitKey) and isinstance(move, Store | Uncertain):
            self.tell()
        return done


@in_virtual_time
async def test_result_that_another_client_stored_is_served_without_a_poll(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=10_000))
    ledger, job = Telling(), make_job("veo-3", request_id)

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(100)
        await ledger.apply(Key(ORIGIN, request_id), Store(job, "a", BODY))
        result = await waiting
        at = asyncio.get_running_loop().time()

    assert request_id == result.request_id
    assert 100.0 == pytest.approx(at, abs=0.5)
    assert {request_id: 1} == emulator.polls
    assert {} == emulator.billed


@in_virtual_time
async def test_news_without_a_change_brings_no_poll_nearer(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=500))
    ledger = Telling()

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        for _ in range(5):
            await asyncio.sleep(50)
            ledger.tell()
            ledger.tell()
        polls = emulator.polls[request_id]
        await waiting
        at = asyncio.get_running_loop().time()

    assert 1 == polls
    assert 600.0 == pytest.approx(at, abs=1)
    assert {request_id: 1} == emulator.billed


@in_virtual_time
async def test_news_during_a_poll_has_the_job_looked_up_after_it(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=10_000))
    ledger, job = Telling(), make_job("veo-3", request_id)

    def store(_: object) -> None:
        ledger._entries[Key(ORIGIN, request_id)] = stored
        ledger.tell()

    done = await MemoryLedger().apply(Key(ORIGIN, request_id), Store(job, "a", BODY))
    assert isinstance(done, Step)
    stored = done.entry
    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        result = await client.wait_for(request_id, on_status=store)
        at = asyncio.get_running_loop().time()

    assert request_id == result.request_id
    assert 0.0 == pytest.approx(at, abs=1)
    assert {} == emulator.billed


@in_virtual_time
async def test_news_during_a_poll_brings_no_further_poll(emulator: Emulator) -> None:
    """The listener of a ledger connects while the first polls are under way."""
    request_id = emulator.add_job(script=JobScript(run_seconds=500))
    ledger = Telling()

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        waiting = asyncio.create_task(
            client.wait_for(request_id, on_status=lambda _: ledger.tell())
        )
        await asyncio.sleep(300)
        polls = emulator.polls[request_id]
        await waiting
        at = asyncio.get_running_loop().time()

    assert 1 == polls
    assert 600.0 == pytest.approx(at, abs=1)


@in_virtual_time
@pytest.mark.parametrize("during", [True, False])
async def test_notify_polls_at_once_after_news(emulator: Emulator, during: bool) -> None:
    request_id = emulator.add_job(script=JobScript(statuses=("IN_PROGRESS", "COMPLETED")))
    ledger = Telling()

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:

        def on_status(_: object) -> None:
            if during and emulator.polls[request_id] == 1:
                ledger.tell()
                client.notify(request_id)

        waiting = asyncio.create_task(client.wait_for(request_id, on_status=on_status))
        await asyncio.sleep(1)
        if not during:
            ledger.tell()
            await asyncio.sleep(0)
            client.notify(request_id)
        await waiting
        at = asyncio.get_running_loop().time()

    assert at < 5
    assert {request_id: 2} == emulator.polls


@in_virtual_time
async def test_uncertain_outcome_elsewhere_ends_the_waiting(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=10_000))
    ledger, job, key = Telling(), make_job("veo-3", request_id), Key(ORIGIN, request_id)

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        for move in (Claim(job, "me", "a", 10.0), Arm("a", 10.0), Uncertain("a", "sent", "?")):
            await ledger.apply(key, move)
        with pytest.raises(ResultUncertainError):
            await waiting

    assert {} == emulator.billed


@in_virtual_time
async def test_client_waits_for_news_only_while_callers_wait(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=10_000))
    ledger = Telling()

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(1)
        awaited = [(key.request_id, future.cancelled()) for key, future in ledger.awaited]
        waiting.cancel()
        await asyncio.sleep(1)
        left = [future.cancelled() for _, future in ledger.awaited]

    assert [(request_id, False)] == awaited
    assert [True] == left


@in_virtual_time
async def test_watcher_is_not_disturbed_by_news(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=500, outcome="FAILED"))
    ledger = Telling()

    async with in_process(emulator, ledger=ledger, poll=SLOW) as client:
        watching = client.watch(request_id)
        first = await anext(watching)
        ledger.tell()
        second = await anext(watching)
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)

    assert ["IN_PROGRESS", "FAILED"] == [first.status, second.status]


async def test_waiter_of_another_process_has_a_stored_result_at_once(
    dsn: str, schema: str, emulator: Emulator, url: str
) -> None:
    """Over a real server, without polling the table or the API in between."""
    ledger, other = PostgresLedger(dsn, schema=schema), PostgresLedger(dsn, schema=schema)
    request_id = emulator.add_job(script=JobScript(run_seconds=1.5))
    waits: list[float] = []

    async with (
        on_socket(url, ledger=ledger) as fetching,
        on_socket(url, ledger=other, poll=SLOW) as waiting,
    ):
        waiter = asyncio.create_task(waiting.wait_for(request_id))
        await fetching.wait_for(request_id)
        began = time.monotonic()
        await waiter
        waits.append(time.monotonic() - began)

    assert {request_id: 1} == emulator.billed
    assert waits[0] < 1


async def test_clients_of_one_ledger_object_wake_each_other(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with two_clients(emulator, Telling()) as (one, other):
        results = await asyncio.gather(one.wait_for(request_id), other.wait_for(request_id))

    assert results[0] == results[1]
    assert {request_id: 1} == emulator.billed
