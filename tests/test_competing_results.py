"""Of two paid responses for one job, the readable one that was stored first is served."""

from __future__ import annotations

import asyncio

import pytest
from ledgers import Handle, fail, on, once
from support import (
    in_process,
    in_virtual_time,
    key_and_job,
    late,
    left_uncertain,
    paid_body,
    pay,
    says_failed,
)

from modelmax_async import InvalidResponseError, MemoryLedger, ResultUncertainError
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.events import AnswerDiscarded, Event, ResultStored
from modelmax_async.ledger import Claim, Fail, Move, Renew, Store, Uncertain

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_late_unreadable_response_does_not_displace_the_second_result(
    emulator: Emulator,
) -> None:
    """The first client was taken for gone; its response arrives during the second call."""
    request_id = emulator.add_job()
    emulator.fault("result", late(Fault.garble(b"\x80"), 25))
    emulator.fault("result", Fault.hang(25))
    store = MemoryLedger()
    seen: list[Event] = []

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, fail))) as one,
        in_process(emulator, ledger=store, hooks=[seen.append]) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        result = await other.result(request_id, accept_second_charge=True)
        await asyncio.gather(first, return_exceptions=True)
        again = await other.wait_for(request_id)

    assert isinstance(first.exception(), InvalidResponseError)
    assert result == again
    assert 1 == sum(isinstance(event, ResultStored) for event in seen)
    assert {request_id: 2} == emulator.billed


async def test_readable_response_replaces_the_unreadable_one_of_a_later_call(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(25))
    emulator.fault("result", Fault.garble(b"\x80"))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, fail))) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        with pytest.raises(InvalidResponseError):
            await other.result(request_id, accept_second_charge=True)
        result = await first
        again = await other.wait_for(request_id)

    assert result == again


async def test_second_readable_response_is_reported_and_the_first_is_served(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(25))
    store = MemoryLedger()
    seen: list[Event] = []

    async with (
        in_process(
            emulator, ledger=Handle(store, before=on(Renew, fail)), hooks=[seen.append]
        ) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        result = await other.result(request_id, accept_second_charge=True)
        same = await first

    assert result == same
    assert [AnswerDiscarded] == [type(e) for e in seen if isinstance(e, AnswerDiscarded)]
    assert [] == [event for event in seen if isinstance(event, ResultStored)]


async def test_result_stored_by_a_late_first_call_makes_a_second_call_unnecessary(
    emulator: Emulator,
) -> None:
    """The first result is stored between the claim and the arm of the second call."""
    request_id = emulator.add_job()
    key, job = key_and_job(request_id)
    store = MemoryLedger()
    emulator.fault("result", Fault.drop_after())

    async def arrive(_: Move) -> None:
        await store.apply(key, Store(job, first, paid_body(request_id)))

    handle = Handle(store)
    async with in_process(emulator, ledger=handle) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)
        first = str(caught.value.attempt)
        handle.after = on(Claim, once(arrive))
        result = await client.result(request_id, accept_second_charge=True)

    assert "/v" == result.videos[0].url
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("end", ["failed", "broken"])
async def test_result_stored_meanwhile_replaces_the_outcome_of_this_call(
    emulator: Emulator, end: str
) -> None:
    """The owner of the first call was paused, and stores its result during the second one."""
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    key, job = key_and_job(request_id)
    first = str(store._entries[key].attempt)
    fault = says_failed(request_id) if end == "failed" else Fault.drop_after()
    emulator.fault("result", fault, request_id=request_id)

    async def wake(_: Move) -> None:
        await store.apply(key, Store(job, first, paid_body(request_id)))

    handle = Handle(store, before=on(Fail if end == "failed" else Uncertain, wake))
    async with in_process(emulator, ledger=handle) as client:
        (ended,) = await asyncio.gather(pay(client, request_id), return_exceptions=True)
        stored = await client.result(request_id)

    assert stored == ended
