"""A ledger that fails, hangs or loses an entry: never a second charge, never a lost result."""

from __future__ import annotations

import asyncio

import pytest
from ledgers import Handle, Losing, OnMove, fail, hang, on, once, refuse, states
from support import ORIGIN, in_process, in_virtual_time, left_uncertain, pay, says_failed

from modelmax_async import (
    BadRequestError,
    InvalidResponseError,
    JobFailedError,
    LedgerError,
    MemoryLedger,
    ResultUncertainError,
)
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Look,
    Move,
    Release,
    Remember,
    Store,
    Uncertain,
)

pytestmark = [pytest.mark.anyio, in_virtual_time]


@pytest.mark.parametrize("kind", [Look, Claim, Arm])
async def test_ledger_that_fails_before_the_call_prevents_it(
    emulator: Emulator, kind: type[Move]
) -> None:
    request_id = emulator.add_job()
    ledger = Handle(MemoryLedger(), before=on(kind, refuse))

    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(LedgerError, match="disk on fire"):
            await client.wait_for(request_id)
        calls = dict(emulator.result_calls)
        ledger.before = None
        result = await client.wait_for(request_id)

    assert {} == calls
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("kind", [Claim, Arm])
async def test_ledger_that_loses_its_entry_stops_the_call(
    emulator: Emulator, kind: type[Move]
) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator, ledger=Losing(kind)) as client:
        with pytest.raises(LedgerError, match="lost an entry"):
            await client.wait_for(request_id)

    assert {} == emulator.result_calls


@pytest.mark.parametrize("act", [refuse, fail])
async def test_ledger_that_fails_at_the_store_is_reported_and_the_result_returned(
    emulator: Emulator, act: OnMove, caplog: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job()
    ledger = Handle(MemoryLedger(), before=on(Store, act))
    seen: list[Event] = []

    async with in_process(emulator, ledger=ledger, hooks=[seen.append]) as client:
        result = await client.wait_for(request_id)
        again = await client.wait_for(request_id)
        asked = await client.result(request_id)
        ledger.before = None

    async with in_process(emulator, ledger=ledger) as another:
        stored = await another.wait_for(request_id)

    assert result == again == asked == stored
    assert 1 == sum(isinstance(event, LedgerFailed) for event in seen)
    assert "a paid result is not stored yet" in caplog.text
    assert {request_id: 1} == emulator.result_calls


async def test_paid_response_is_stored_once_the_ledger_recovers(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    ledger = Handle(MemoryLedger(), before=on(Store, refuse))

    async with in_process(emulator, ledger=ledger) as client:
        await client.wait_for(request_id)
        await asyncio.sleep(60)
        ledger.before = None
        await asyncio.sleep(5)
        stored = await ledger.entries(ORIGIN, {"stored"})

    assert [request_id] == [entry.job.request_id for entry in stored]


async def test_ledger_that_hangs_at_the_store_still_gives_the_result(
    emulator: Emulator,
) -> None:
    seen: list[Event] = []
    ledger = Handle(MemoryLedger(), before=on(Store, hang))

    async with in_process(emulator, ledger=ledger, hooks=[seen.append]) as client:
        request_id = emulator.add_job()
        result = await client.wait_for(request_id)
        again = await client.wait_for(request_id)

    causes = [event.cause for event in seen if isinstance(event, LedgerFailed)]

    assert result == again
    assert "not stored yet" in causes[0]
    assert {request_id: 1} == emulator.billed


async def test_unreadable_response_is_not_said_to_be_in_a_ledger_that_failed(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.garble())
    ledger = Handle(MemoryLedger(), before=on(Store, fail))

    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result(emulator.add_job())

    assert "and in the ledger" not in str(caught.value)


async def test_ledger_that_loses_a_paid_response_is_reported(emulator: Emulator) -> None:
    seen: list[Event] = []

    async with in_process(emulator, ledger=Losing(Store), hooks=[seen.append]) as client:
        request_id = emulator.add_job()
        result = await client.wait_for(request_id)

    causes = [event.cause for event in seen if isinstance(event, LedgerFailed)]

    assert request_id == result.request_id
    assert "did not keep" in causes[0]
    assert "it is lost" in causes[-1]


@pytest.mark.parametrize("kind", [Uncertain, Release])
async def test_ledger_that_fails_at_an_outcome_leaves_the_job_armed(
    emulator: Emulator, kind: type[Move], caplog: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job()
    fault = Fault.drop_after() if kind is Uncertain else Fault.error(400)
    emulator.fault("result", fault)
    store = MemoryLedger()

    async with in_process(emulator, ledger=Handle(store, before=on(kind, refuse))) as client:
        with pytest.raises((ResultUncertainError, BadRequestError)):
            await client.wait_for(request_id)
        left = states(store)

    assert ["armed"] == left
    assert "disk on fire" in caplog.text
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize(
    ("error", "expected"), [("blocked by a filter", "blocked"), ("", "no reason given")]
)
async def test_failure_that_the_ledger_refuses_is_still_raised(
    emulator: Emulator, error: str, expected: str
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error=error))
    ledger = Handle(MemoryLedger(), before=on(Fail, fail))

    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(JobFailedError, match=expected):
            await client.wait_for(request_id)
        with pytest.raises(JobFailedError):
            await client.result(request_id)


async def test_failed_second_call_is_not_called_unbilled_when_the_ledger_fails(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", says_failed(request_id), request_id=request_id)

    async with in_process(emulator, ledger=Handle(store, before=on(Fail, fail))) as client:
        (ended,) = await asyncio.gather(pay(client, request_id), return_exceptions=True)

    assert not isinstance(ended, JobFailedError)


@pytest.mark.parametrize("kind", [Uncertain, Release, Fail])
async def test_ledger_that_hangs_after_the_call_does_not_block_the_caller(
    emulator: Emulator, kind: type[Move]
) -> None:
    request_id = emulator.add_job()
    fault = {
        Uncertain: Fault.drop_after(),
        Release: Fault.error(402, type="insufficient_balance"),
        Fail: says_failed(request_id),
    }[kind]
    emulator.fault("result", fault)
    ledger = Handle(MemoryLedger(), before=on(kind, once(hang)))

    async with in_process(emulator, ledger=ledger) as client:
        asking = asyncio.create_task(client.result(request_id))
        done, _ = await asyncio.wait([asking], timeout=3600)
        asking.cancel()

    assert {asking} == done


@pytest.mark.parametrize("kind", [Uncertain, Store])
async def test_ledger_that_hangs_after_the_call_does_not_lock_the_job(
    emulator: Emulator, kind: type[Move]
) -> None:
    """The lease of the call must end: another client can then fetch or list the job."""
    request_id = emulator.add_job()
    if kind is Uncertain:
        emulator.fault("result", Fault.drop_after())
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=Handle(store, before=on(kind, once(hang)))) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(60)
        second = asyncio.create_task(other.result(request_id))
        done, _ = await asyncio.wait([second], timeout=3600)
        listed = await other.unresolved()
        first.cancel()
        second.cancel()

    assert done or listed


async def test_submit_returns_its_job_though_the_ledger_fails(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Handle(MemoryLedger(), before=on(Remember, refuse))

    async with in_process(emulator, ledger=ledger) as client:
        job = await client.submit("a reef")

    assert job.request_id in emulator.jobs
    assert "disk on fire" in caplog.text


async def test_submit_returns_its_job_though_the_ledger_hangs(emulator: Emulator) -> None:
    """The caller would lose the id of the job if it gave up waiting."""
    ledger = Handle(MemoryLedger(), before=on(Remember, once(hang)))

    async with in_process(emulator, ledger=ledger) as client:
        submitting = asyncio.create_task(client.submit("a reef"))
        done, _ = await asyncio.wait([submitting], timeout=3600)
        submitting.cancel()

    assert {submitting} == done
