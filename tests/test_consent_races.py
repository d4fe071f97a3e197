"""Consent to a second charge is about one attempt, and ends with the caller that gave it."""

from __future__ import annotations

import asyncio

import pytest
from ledgers import Handle, Pause, Seen, on
from support import (
    SlowToConnect,
    claimed_by_another,
    in_process,
    in_virtual_time,
    key_and_job,
    left_uncertain,
    pay,
    two_clients,
)

from modelmax_async import AsyncQueueClient, MemoryLedger, Result, ResultUncertainError
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.ledger import Arm, Claim, Look, Move, Renew, Step, Store

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_consent_that_meets_a_call_under_way_is_served_by_it(
    emulator: Emulator,
) -> None:
    """The result of the other client is stored between two looks of this one."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", Fault.hang(5), request_id=request_id)
    stored = asyncio.Event()

    async def note_stored(_: Move) -> None:
        stored.set()

    async def wait_for_store(_: Move) -> None:
        await stored.wait()

    async with (
        in_process(emulator, ledger=Handle(store, after=on(Store, note_stored))) as one,
        in_process(emulator, ledger=Handle(store, after=wait_for_store)) as other,
    ):
        first = pay(one, request_id)
        await asyncio.sleep(1)
        second = pay(other, request_id)
        results = await asyncio.gather(first, second)

    assert results[0] == results[1]
    assert {request_id: 2} == emulator.billed


@pytest.mark.untraced
@pytest.mark.parametrize("method", ["accept", "refetch"])
@pytest.mark.parametrize("seed", range(40))
async def test_two_clients_that_consent_at_once_pay_once_more_together(
    method: str, seed: int
) -> None:
    emulator = Emulator(seed=seed)
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    latencies = iter([0.01 * ((seed * 7919 + n * 104729) % 17) for n in range(10_000)])

    async def slow(_: Move) -> None:
        await asyncio.sleep(next(latencies))

    async def ask(client: AsyncQueueClient) -> Result:
        if method == "accept":
            return await client.result(request_id, accept_second_charge=True)
        return await client.wait_for(request_id)

    options = {"on_uncertain": "refetch"} if method == "refetch" else {}
    async with (
        in_process(emulator, ledger=Handle(store, before=slow, after=slow), **options) as one,
        in_process(emulator, ledger=Handle(store, before=slow, after=slow), **options) as other,
    ):
        results = await asyncio.gather(ask(one), ask(other))

    assert results[0] == results[1]
    assert {request_id: 2} == emulator.billed


async def test_consent_does_not_cover_the_failure_of_a_call_under_way(
    emulator: Emulator,
) -> None:
    """Consent is given during the call of another client, whose connection then breaks."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(20), request_id=request_id)
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=store, timeout=10) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        second = pay(other, request_id)
        ended = await asyncio.gather(first, second, return_exceptions=True)

    assert [ResultUncertainError] * 2 == [type(end) for end in ended]
    assert {request_id: 1} == emulator.result_calls


async def test_void_consent_does_not_replace_cancelled_consent(
    emulator: Emulator,
) -> None:
    """The lease is renewed after the first consent; the caller of the second is cancelled."""
    request_id = emulator.add_job()
    store = MemoryLedger()
    key, job = key_and_job(request_id)
    await claimed_by_another(store, request_id, Arm("a1", 10.0))
    claimed = asyncio.Event()

    async def linger(_: Move) -> None:
        done = await store.apply(key, Look(job))
        assert isinstance(done, Step)
        if done.entry.owner not in {None, "gone"}:
            claimed.set()
        await asyncio.sleep(1)

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, linger))) as client:
        first = pay(client, request_id)
        await asyncio.sleep(0.5)
        await store.apply(key, Renew("a1", 10.0))
        second = pay(client, request_id)
        await claimed.wait()
        second.cancel()
        (ended,) = await asyncio.gather(first, return_exceptions=True)

    assert isinstance(ended, ResultUncertainError)
    assert {} == emulator.result_calls


async def test_cancelled_consent_pays_nothing_later(emulator: Emulator) -> None:
    """Forty callers consent while another client holds the call, and are cancelled."""
    store = Seen()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", Fault.hang(20), request_id=request_id)
    emulator.fault("result", Fault.drop_after(), times=None, request_id=request_id)
    before = len(asyncio.all_tasks())

    async with two_clients(emulator, store) as (one, other):
        held = asyncio.create_task(one.result(request_id, accept_second_charge=True))
        await asyncio.sleep(1)
        payers = [pay(other, request_id) for _ in range(40)]
        await asyncio.sleep(1)
        for payer in payers:
            payer.cancel()
        await asyncio.gather(*payers, return_exceptions=True)
        await asyncio.sleep(1)
        moves = len(store.applied)
        left = len(asyncio.all_tasks())
        await asyncio.sleep(10)
        await asyncio.gather(held, return_exceptions=True)
        await asyncio.sleep(60)

    assert {"Renew"} == set(store.kinds[moves : moves + 4])
    assert left - before < 10
    assert {request_id: 2} == emulator.billed


async def test_consent_cancelled_after_the_claim_pays_nothing(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    pause = Pause()

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, pause))) as client:
        payer = pay(client, request_id)
        await pause.reached.wait()
        payer.cancel()
        await asyncio.sleep(5)
        (entry,) = await client.unresolved()

    assert "uncertain" == entry.state
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("method", ["accept", "refetch"])
async def test_consent_cancelled_while_the_call_is_armed_pays_nothing(
    emulator: Emulator, method: str
) -> None:
    """The ledger takes a second to arm the call; the caller leaves meanwhile."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    pause = Pause()
    handle = Handle(store, before=on(Arm, pause))
    options = {"on_uncertain": "refetch"} if method == "refetch" else {}

    async with in_process(emulator, ledger=handle, **options) as client:
        if method == "accept":
            payer = pay(client, request_id)
        else:
            payer = asyncio.create_task(client.wait_for(request_id))
        await pause.reached.wait()
        payer.cancel()
        await asyncio.sleep(30)

    assert {request_id: 1} == emulator.result_calls


async def test_consent_cancelled_while_the_call_connects_pays_nothing(
    emulator: Emulator,
) -> None:
    """The first call of a client is armed before it connects."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)

    async with in_process(
        emulator, http_client=SlowToConnect(emulator, 5), ledger=store
    ) as client:
        payer = pay(client, request_id)
        await asyncio.sleep(1)
        payer.cancel()
        await asyncio.sleep(30)

    assert {request_id: 1} == emulator.result_calls


async def test_consent_of_two_callers_survives_the_cancellation_of_one(
    emulator: Emulator,
) -> None:
    store = Seen()
    request_id = await left_uncertain(emulator, store)

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, Pause()))) as client:
        first, second = pay(client, request_id), pay(client, request_id)
        await asyncio.sleep(0.5)
        first.cancel()
        result = await second

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.result_calls
    assert 2 == store.kinds.count("Claim")  # the call that was left uncertain, and this one


async def test_refetch_ends_with_the_last_waiter(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    handle = Handle(store, after=on(Claim, Pause()))

    async with in_process(emulator, ledger=handle, on_uncertain="refetch") as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.sleep(30)

    assert {request_id: 1} == emulator.result_calls


async def test_refetch_is_not_made_for_a_watcher(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    pause = Pause()
    handle = Handle(store, after=on(Claim, pause))
    emulator.fault("status", Fault.hang(2), request_id=request_id)
    async with in_process(emulator, ledger=handle, on_uncertain="refetch") as client:
        watching = client.watch(request_id)
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0)
        report = await anext(watching)  # suspended here: its consumer is busy
        await pause.reached.wait()
        waiting.cancel()
        await asyncio.sleep(30)
        await watching.aclose()

    assert "COMPLETED" == report.status
    assert {request_id: 1} == emulator.result_calls
