"""FAILED ends a job as not billed only where the ledger knows of no charge."""

from __future__ import annotations

import asyncio
import json

import pytest
from ledgers import Handle, on, refuse
from support import (
    claimed_by_another,
    in_process,
    in_virtual_time,
    key_and_job,
    paid_body,
    two_clients,
)

from modelmax_async import JobFailedError, MemoryLedger, Result, ResultUncertainError
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.ledger import Arm, Fail, Move, Release, Store, Uncertain

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_failed_job_raises_the_servers_text_and_is_never_fetched(
    emulator: Emulator,
) -> None:
    script = JobScript(run_seconds=2, outcome="FAILED", error="blocked by a filter")
    request_id = emulator.add_job(script=script)

    async with in_process(emulator) as client:
        with pytest.raises(JobFailedError, match="blocked by a filter") as caught:
            await client.wait_for(request_id)
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)

    assert "blocked by a filter" == caught.value.error
    assert request_id == caught.value.job.request_id
    assert {} == emulator.result_calls


async def test_failed_job_raises_though_the_ledger_cannot_record_it(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))
    ledger = Handle(MemoryLedger(), before=on(Fail, refuse))

    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(JobFailedError, match="no"):
            await client.wait_for(request_id)


async def test_result_of_a_failed_job_raises_its_failure(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error="no"))

    async with in_process(emulator) as client:
        with pytest.raises(JobFailedError):
            await client.result(request_id)
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.result_calls
    assert {} == emulator.billed


async def test_uncertain_job_stays_uncertain_though_status_says_failed(
    emulator: Emulator,
) -> None:
    """One client was billed; another one, which was polling before, then sees FAILED."""
    request_id = emulator.add_job(script=JobScript(statuses=("IN_PROGRESS", "FAILED")))
    emulator.fault("result", Fault.drop_after())
    store = MemoryLedger()

    async with two_clients(emulator, store) as (one, other):
        watching = asyncio.create_task(other.wait_for(request_id))
        await asyncio.sleep(0.5)
        with pytest.raises(ResultUncertainError):
            await one.result(request_id)
        (ended,) = await asyncio.gather(watching, return_exceptions=True)
        (entry,) = await one.unresolved()

    assert isinstance(ended, ResultUncertainError)
    assert "uncertain" == entry.state


async def test_call_under_way_is_waited_for_though_status_says_failed(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(statuses=("COMPLETED", "FAILED")))
    emulator.fault("result", Fault.hang(20))
    store = MemoryLedger()

    async with two_clients(emulator, store) as (one, other):
        first = asyncio.create_task(one.wait_for(request_id))
        await asyncio.sleep(1)
        second = asyncio.create_task(other.wait_for(request_id))
        results = await asyncio.gather(first, second)

    assert results[0] == results[1]
    assert {request_id: 1} == emulator.result_calls


async def test_stored_result_is_served_though_status_says_failed(emulator: Emulator) -> None:
    request_id = emulator.add_job(
        script=JobScript(statuses=("IN_PROGRESS", "COMPLETED", "FAILED"))
    )
    store = MemoryLedger()

    async with two_clients(emulator, store) as (one, other):
        watching = asyncio.create_task(other.wait_for(request_id))
        await asyncio.sleep(0.5)
        paid = await one.wait_for(request_id)
        result = await watching

    assert paid == result


async def test_failed_second_call_leaves_the_job_uncertain(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    body = {"request_id": request_id, "status": "FAILED", "error": "no"}
    emulator.fault("result", Fault.drop_after())
    emulator.fault("result", Fault.raw(200, json.dumps(body).encode(), processed=False))

    async with in_process(emulator) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        with pytest.raises(ResultUncertainError, match="now the server says FAILED: no"):
            await client.result(request_id, accept_second_charge=True)
        (entry,) = await client.unresolved()

    assert "uncertain" == entry.state


async def test_armed_call_of_a_dead_client_is_uncertain_though_status_says_failed(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED"))
    store = MemoryLedger()
    await claimed_by_another(store, request_id, Arm("a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        async with asyncio.timeout(15):
            with pytest.raises(ResultUncertainError, match="now the server says FAILED"):
                await client.wait_for(request_id)


async def test_claim_of_a_dead_client_does_not_hide_a_failure(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED"))
    store = MemoryLedger()
    await claimed_by_another(store, request_id)

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)


@pytest.mark.parametrize(
    ("left", "expected"),
    [("uncertain", ResultUncertainError), ("stored", Result), ("nothing", JobFailedError)],
)
async def test_failed_status_of_a_watchers_poll_is_checked_against_the_ledger(
    emulator: Emulator, left: str, expected: type
) -> None:
    """A waiter joins the poll of a watcher, which does not read the ledger."""
    store = MemoryLedger()
    request_id = emulator.add_job(script=JobScript(outcome="FAILED"))
    _, job = key_and_job(request_id)
    outcomes: dict[str, Move] = {
        "uncertain": Uncertain("a1", "sent", "it broke off"),
        "stored": Store(job, "a1", paid_body(request_id)),
        "nothing": Release("a1"),
    }
    await claimed_by_another(store, request_id, Arm("a1", 10.0), outcomes[left])
    emulator.fault("status", Fault.hang(2), request_id=request_id)

    async with in_process(emulator, ledger=store) as client:
        watching = client.watch(request_id)
        looking = asyncio.create_task(anext(watching))
        await asyncio.sleep(1)
        (ended,) = await asyncio.gather(client.wait_for(request_id), return_exceptions=True)
        await looking
        await watching.aclose()

    assert expected is type(ended)
