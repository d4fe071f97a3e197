"""The settler: who shares a billed call, who starts one, and what is told of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from ledgers import Handle, Seen, on
from support import in_process, in_virtual_time, late

from modelmax_async import (
    ClientStateError,
    InsufficientBalanceError,
    InvalidResponseError,
    MemoryLedger,
    NotReadyError,
    Result,
    ResultUncertainError,
)
from modelmax_async._api.paths import make_job
from modelmax_async._billing.outcomes import Held
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import (
    BilledCallArmed,
    CallEnded,
    ClaimReleased,
    Event,
    ResultStored,
    ResultUncertain,
)
from modelmax_async.ledger import Arm, Claim, Key, Move, Renew, Store

pytestmark = [pytest.mark.anyio, in_virtual_time]


def told(seen: list[Event]) -> list[type[Event]]:
    """The kinds of the records of one billed call, in their order."""
    records = [event for event in seen if getattr(event, "attempt", "")]

    assert 1 == len({getattr(event, "attempt", "") for event in records})
    return [type(event) for event in records]


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_those_who_want_the_same_call_share_its_error_too(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(402, type="insufficient_balance"))

    async with in_process(emulator) as client:
        both = client.result(request_id), client.result(request_id)
        ended = await asyncio.gather(*both, return_exceptions=True)

    assert [InsufficientBalanceError] * 2 == [type(end) for end in ended]
    assert ended[0] is not ended[1]
    assert {request_id: 1} == emulator.result_calls


async def test_call_that_cannot_be_built_leaves_nothing_claimed(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        with monkeypatch.context() as patched:
            patched.setattr("modelmax_async._billing.settler.build_result", lambda _: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await client.result(request_id)
        await client.result(request_id)

    assert {request_id: 1} == emulator.billed


async def test_who_may_not_share_a_call_waits_for_its_end(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(20))

    async with in_process(emulator) as client:
        sharing = asyncio.create_task(client.result(request_id))
        await asyncio.sleep(1)
        outcome = await client._engine.settler.settle(make_job("veo-2", request_id))
        waited = now()
        await sharing

    assert Held() == outcome
    assert 20 <= waited


async def test_closing_client_begins_no_billed_call(emulator: Emulator) -> None:
    """A visit under way learns that its job is COMPLETED; another call keeps it open."""
    paid, late = emulator.add_job(), emulator.add_job()
    emulator.fault("result", Fault.hang(20), request_id=paid)
    emulator.fault("status", Fault.hang(5), request_id=late)
    store = Seen()

    async with in_process(emulator, ledger=store) as client:
        waits = [asyncio.create_task(client.wait_for(job)) for job in (paid, late)]
        await asyncio.sleep(1)
        await client.aclose()
        ended = await asyncio.gather(*waits, return_exceptions=True)

    claimed = [move.job.request_id for _, move in store.applied if isinstance(move, Claim)]
    assert [paid] == claimed
    assert [Result, ClientStateError] == [type(end) for end in ended]


async def test_call_that_was_claimed_when_the_client_closed_is_not_sent(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    store = Seen()

    async def linger(_: Move) -> None:
        await asyncio.sleep(5)

    handle = Handle(store, after=on(Claim, linger))
    async with in_process(emulator, ledger=handle) as client:
        asking = asyncio.create_task(client.result(request_id))
        await asyncio.sleep(1)
        await client.aclose()
        (ended,) = await asyncio.gather(asking, return_exceptions=True)

    assert isinstance(ended, ClientStateError)
    assert ["Claim", "Release"] == [kind for kind in store.kinds if kind != "Renew"]
    assert {} == emulator.result_calls


async def test_answer_that_the_ledger_has_not_taken_is_served_to_all_who_ask(
    emulator: Emulator,
) -> None:
    async def refuse(_: Move) -> None:
        raise OSError("the disk is full")

    request_id = emulator.add_job()
    store = Seen()
    async with in_process(emulator, ledger=Handle(store, before=on(Store, refuse))) as client:
        first = await client.result(request_id)
        moves = len(store.applied)
        again = [await client.result(request_id), await client.wait_for(request_id)]

    assert [first, first] == again
    assert moves == len(store.applied)
    assert {request_id: 1} == emulator.result_calls


async def test_consent_counts_also_where_this_client_watched_the_owner_go(
    emulator: Emulator,
) -> None:
    """The lease that stood still is still known when the user decides."""
    request_id = emulator.add_job()
    key, job = Key("http://127.0.0.1:80", request_id), make_job("veo-3", request_id)
    store = MemoryLedger()
    await store.apply(key, Claim(job, "gone", "a1", 10.0))
    await store.apply(key, Arm("a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_owner_that_is_gone_is_watched_no_longer_once_its_claim_is_taken_over(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    key, job = Key("http://127.0.0.1:80", request_id), make_job("veo-3", request_id)
    store = MemoryLedger()
    await store.apply(key, Claim(job, "gone", "a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        await client.wait_for(request_id)

        assert client._engine.records.watch.gone(key) is None


async def test_call_that_paid_is_told_as_armed_and_stored(emulator: Emulator) -> None:
    seen: list[Event] = []

    async with in_process(emulator, hooks=[seen.append]) as client:
        await client.result(emulator.add_job())

    assert [BilledCallArmed, ResultStored, CallEnded] == told(seen)


@pytest.mark.parametrize(
    ("script", "fault", "cause"),
    [
        (JobScript(run_seconds=5), None, "the job is IN_PROGRESS"),
        (None, Fault.error(402, type="insufficient_balance"), "insufficient"),
    ],
)
async def test_call_that_cost_nothing_is_told_as_released_and_why(
    emulator: Emulator, script: JobScript | None, fault: Fault | None, cause: str
) -> None:
    request_id = emulator.add_job(script=script)
    if fault is not None:
        emulator.fault("result", fault)
    seen: list[Event] = []

    async with in_process(emulator, hooks=[seen.append]) as client:
        with pytest.raises((NotReadyError, InsufficientBalanceError)):
            await client.result(request_id)

    assert [BilledCallArmed, ClaimReleased, CallEnded] == told(seen)
    assert any(cause in e.cause for e in seen if isinstance(e, ClaimReleased))


async def test_call_of_unknown_outcome_is_told(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())
    seen: list[Event] = []

    async with in_process(emulator, hooks=[seen.append]) as client:
        with pytest.raises(ResultUncertainError):
            await client.result(request_id)

    assert [BilledCallArmed, ResultUncertain, CallEnded] == told(seen)


async def test_call_that_the_close_breaks_off_is_recorded_as_far_as_it_came(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(100))
    store = Seen()
    seen: list[Event] = []

    async with in_process(emulator, ledger=store, hooks=[seen.append], timeout=200) as client:
        asking = asyncio.create_task(client.result(request_id))
        await asyncio.sleep(1)
        await client._engine.settler.drain(5.0)
        await asyncio.gather(asking, return_exceptions=True)
        (entry,) = await client.unresolved()

    assert ["Claim", "Arm", "Uncertain"] == [kind for kind in store.kinds if kind != "Renew"]
    assert ("uncertain", "sent") == (entry.state, entry.phase)
    assert [BilledCallArmed, ResultUncertain, CallEnded] == told(seen)


def answer(request_id: str, url: str) -> Fault:
    body = {"request_id": request_id, "status": "COMPLETED", "data": [{"url": url}]}
    return Fault.raw(200, json.dumps(body).encode())


async def out_of_reach(_: Move) -> None:
    raise OSError("the ledger is out of reach")


async def test_of_two_paid_answers_all_are_served_the_one_that_is_kept(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", late(answer(request_id, "/v1/late"), 25))
    emulator.fault("result", answer(request_id, "/v1/kept"))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, out_of_reach))) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        await other.result(request_id, accept_second_charge=True)
        result = await first

    assert "/v1/kept" == result.videos[0].url


async def test_late_garbage_is_told_while_a_third_call_is_under_way(emulator: Emulator) -> None:
    """The second call brought garbage too, and the user has paid once more."""
    request_id = emulator.add_job()
    emulator.fault("result", late(Fault.garble(b"\x80"), 25))
    emulator.fault("result", Fault.garble(b"\x81"))
    emulator.fault("result", Fault.hang(25))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, out_of_reach))) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        with pytest.raises(InvalidResponseError):
            await other.result(request_id, accept_second_charge=True)
        third = asyncio.create_task(other.result(request_id, accept_second_charge=True))
        with pytest.raises(InvalidResponseError):
            await first
        under_way = not third.done()
        result = await third

    assert under_way
    assert request_id == result.request_id
