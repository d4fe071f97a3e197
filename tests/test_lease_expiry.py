"""The lease of a billed call is renewed while the call runs, and no byte is sent after it."""

from __future__ import annotations

import asyncio

import attrs
import pytest
from ledgers import Handle, Seen, fail, forever, hang, on, once
from support import SlowToConnect, in_process, in_virtual_time, key_and_job, pay

from modelmax_async import MemoryLedger, ResultUncertainError
from modelmax_async._runtime import clock
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.events import BilledCallArmed, Event
from modelmax_async.ledger import Claim, Move, Release, Renew, Store

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_store_that_hangs_delays_no_renewal(emulator: Emulator) -> None:
    """Without a renewal, another client would take this one for gone and pay again."""
    first, second = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.hang(25), request_id=second)
    store = Seen()
    ledger = Handle(store, before=on(Store, hang))

    async with in_process(emulator, ledger=ledger) as client:
        waiting = [asyncio.create_task(client.wait_for(job)) for job in (first, second)]
        await asyncio.sleep(24)
        renewed = store.ids_of(Renew)
        for task in waiting:
            task.cancel()

    assert 9 == renewed.count(second)


async def test_renewal_that_fails_or_hangs_delays_no_other(emulator: Emulator) -> None:
    jobs = [emulator.add_job() for _ in range(3)]
    emulator.fault("result", Fault.hang(24), times=None)
    store = Seen()

    async def fail_or_hang(move: Move) -> None:
        assert isinstance(move, Renew)
        attempts = {entry.attempt: key.request_id for key, entry in store._entries.items()}
        if attempts[move.attempt] == jobs[0]:
            await fail(move)
        elif attempts[move.attempt] == jobs[1]:
            await forever()

    ledger = Handle(store, before=on(Renew, fail_or_hang))
    async with in_process(emulator, ledger=ledger) as client:
        results = await client.gather_results(jobs)
        renewed = store.ids_of(Renew)

    assert jobs == [result.request_id for result in results]
    assert [jobs[2]] * 9 == renewed


async def test_renewal_that_hung_once_does_not_stop_later_ones(emulator: Emulator) -> None:
    """Without a renewal, another client would take the owner for gone and race its call."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(29), request_id=request_id)
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, once(hang)))) as one,
        in_process(emulator, ledger=store, on_uncertain="refetch") as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        results = await asyncio.gather(first, other.wait_for(request_id))

    assert results[0] == results[1]
    assert {request_id: 1} == emulator.billed


async def test_lease_is_not_renewed_once_the_call_is_over(emulator: Emulator) -> None:
    store = Seen()
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        await asyncio.sleep(60)

    assert "Renew" not in store.kinds


async def test_hook_that_blocks_does_not_delay_byte_zero_past_the_lease(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hooks run between the reading of the clock and byte 0."""
    request_id = emulator.add_job()
    boottime = clock.boottime
    calls_at_release: list[int] = []

    def block(event: Event) -> None:
        if isinstance(event, BilledCallArmed) and not calls_at_release:
            monkeypatch.setattr(clock, "boottime", lambda: boottime() + 3600)

    async def note(_: Move) -> None:
        calls_at_release.append(emulator.result_calls.get(request_id, 0))

    handle = Handle(MemoryLedger(), before=on(Release, note))
    async with in_process(emulator, ledger=handle, hooks=[block]) as client:
        await client.wait_for(request_id)

    assert [0] == calls_at_release


async def test_slow_connection_does_not_delay_byte_zero_past_the_lease(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client connects slowly and loses its ledger; another one pays meanwhile."""
    monkeypatch.setattr(clock, "boottime", lambda: asyncio.get_running_loop().time())
    request_id = emulator.add_job()
    store = MemoryLedger()

    cut_off = Handle(store, before=on(Renew, fail))
    async with (
        in_process(emulator, http_client=SlowToConnect(emulator, 25), ledger=cut_off) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        second = await pay(other, request_id)
        (ended,) = await asyncio.gather(first, return_exceptions=True)

    assert second == ended
    assert {request_id: 1} == emulator.billed


async def test_claim_whose_lease_ran_out_before_byte_zero_is_made_again(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    key, _ = key_and_job(request_id)
    store = MemoryLedger()

    async def let_the_lease_run_out(_: Move) -> None:
        store._entries[key] = attrs.evolve(store._entries[key], lease_until=0.0)

    ledger = Handle(store, after=on(Claim, once(let_the_lease_run_out)))
    async with in_process(emulator, ledger=ledger) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls
