"""A second charge: only with consent, and only once."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest
from ledgers import Handle, fail, on
from support import (
    claimed_by_another,
    in_process,
    in_virtual_time,
    key_and_job,
    left_uncertain,
    until,
)

from modelmax_async import (
    InsufficientBalanceError,
    InvalidResponseError,
    MemoryLedger,
    ResultUncertainError,
    ServerError,
)
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.ledger import Arm, Store, Uncertain

pytestmark = [pytest.mark.anyio, in_virtual_time]


@pytest.mark.parametrize("fault", [Fault.drop_after(), Fault.error(500)])
async def test_second_charge_needs_consent_and_settles_the_job(
    emulator: Emulator, fault: Fault
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", fault)

    async with in_process(emulator) as client:
        with pytest.raises(ResultUncertainError, match="accept_second_charge=True"):
            await client.wait_for(request_id)
        result = await client.result(request_id, accept_second_charge=True)
        again = await client.result(request_id, accept_second_charge=True)
        waited = await client.wait_for(request_id)
        unresolved = await client.unresolved()

    assert result == again == waited
    assert [] == unresolved
    assert {request_id: 2} == emulator.result_calls


async def test_consent_during_a_call_waits_for_that_call(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await until(lambda: emulator.billed_total)
        result = await client.result(request_id, accept_second_charge=True)
        waited = await waiting

    assert result == waited
    assert {request_id: 1} == emulator.result_calls


async def test_unbilled_second_call_leaves_the_job_uncertain(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())
    emulator.fault("result", Fault.error(402, type="insufficient_balance"))

    async with in_process(emulator) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        with pytest.raises(InsufficientBalanceError):
            await client.result(request_id, accept_second_charge=True)
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert {request_id: 2} == emulator.result_calls


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "refetched"])
async def test_one_second_charge_serves_all_callers_that_consent(
    emulator: Emulator, accept: bool
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=None)
    policy: Any = "raise" if accept else "refetch"

    async with in_process(emulator, on_uncertain=policy) as client:
        if accept:
            with pytest.raises(ResultUncertainError):
                await client.wait_for(request_id)
        asked = (client.result(request_id, accept_second_charge=accept) for _ in range(5))
        ended = await asyncio.gather(*asked, return_exceptions=True)

    assert [ResultUncertainError] * 5 == [type(end) for end in ended]
    assert {request_id: 2} == emulator.billed


@pytest.mark.parametrize("method", ["wait_for", "result"])
async def test_refetch_pays_at_most_once_more(emulator: Emulator, method: str) -> None:
    lucky, unlucky = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=lucky)
    emulator.fault("result", Fault.drop_after(), times=None, request_id=unlucky)

    async with in_process(emulator, on_uncertain="refetch") as client:
        ask = getattr(client, method)
        result = await ask(lucky)
        with pytest.raises(ResultUncertainError):
            await ask(unlucky)

    assert lucky == result.request_id
    assert {lucky: 2, unlucky: 2} == emulator.result_calls


async def test_consent_about_the_call_of_a_dead_client_is_carried_out(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    store = MemoryLedger()
    await claimed_by_another(store, request_id, Arm("a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        began = asyncio.get_running_loop().time()
        result = await client.result(request_id, accept_second_charge=True)
        took = asyncio.get_running_loop().time() - began

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls
    assert 10 < took < 12


async def test_unbilled_second_call_is_retried(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", Fault.error(503), times=2, request_id=request_id)

    async with in_process(emulator, ledger=store) as client:
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


async def test_second_call_that_keeps_failing_leaves_the_job_uncertain(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", Fault.error(503), times=None, request_id=request_id)

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(ServerError):
            await client.result(request_id, accept_second_charge=True)
        (entry,) = await client.unresolved()

    assert request_id == entry.job.request_id
    assert {request_id: 1} == emulator.billed


async def test_unreadable_response_that_is_not_stored_yet_can_be_fetched_again(
    emulator: Emulator,
) -> None:
    """The ledger refuses the body at first, and takes it when the caller consents."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.garble())
    handle = Handle(MemoryLedger(), before=on(Store, fail))

    async with in_process(emulator, ledger=handle) as client:
        with pytest.raises(InvalidResponseError):
            await client.result(request_id)
        handle.before = None
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


async def test_abandoned_job_is_fetched_only_with_consent(emulator: Emulator) -> None:
    """`on_uncertain="refetch"` does not count: the user has given the job up."""
    request_id = emulator.add_job()
    key, _ = key_and_job(request_id)
    store = MemoryLedger()
    uncertain = Uncertain("a1", "sent", "it broke off")
    await claimed_by_another(store, request_id, Arm("a1", 10.0), uncertain)
    store._entries[key] = attrs.evolve(store._entries[key], state="abandoned")

    async with in_process(emulator, ledger=store, on_uncertain="refetch") as client:
        with pytest.raises(ResultUncertainError, match="abandoned the job"):
            await client.wait_for(request_id)
        with pytest.raises(ResultUncertainError, match="abandoned the job"):
            await client.result(request_id)
        polls, calls = dict(emulator.polls), dict(emulator.result_calls)
        result = await client.result(request_id, accept_second_charge=True)

    assert {} == polls
    assert {} == calls
    assert request_id == result.request_id
