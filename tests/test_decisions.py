"""A decision to pay again: about one attempt, void once anything else has happened."""

from __future__ import annotations

import asyncio

import pytest
from ledgers import Handle, Seen, on
from support import in_process, in_virtual_time

from modelmax_async import (
    AsyncQueueClient,
    InvalidResponseError,
    MemoryLedger,
    Result,
    ResultUncertainError,
    ServerError,
)
from modelmax_async._api.paths import make_job
from modelmax_async._billing.decisions import Decision, Flight, decide
from modelmax_async._billing.outcomes import Held
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.ledger import (
    Arm,
    Claim,
    Fail,
    Key,
    Look,
    Move,
    Release,
    Remember,
    Store,
    Uncertain,
)

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def left_uncertain(emulator: Emulator, ledger: MemoryLedger) -> str:
    """A job whose billed call was processed, and whose answer never arrived."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), request_id=request_id)
    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
    return request_id


def pay(client: AsyncQueueClient, request_id: str) -> asyncio.Task[Result]:
    return asyncio.create_task(client.result(request_id, accept_second_charge=True))


async def test_decision_that_meets_a_call_under_way_is_served_by_it(
    emulator: Emulator,
) -> None:
    """The other client's answer is stored between two looks of this one."""
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


@pytest.mark.parametrize("method", ["accept", "refetch"])
@pytest.mark.parametrize("seed", range(40))
async def test_two_deciders_at_once_pay_once_more_together(method: str, seed: int) -> None:
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


async def test_cancelled_decision_pays_nothing_later(emulator: Emulator) -> None:
    """Forty callers decide while another client holds the call, and give up."""
    store = Seen()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", Fault.hang(20), request_id=request_id)
    emulator.fault("result", Fault.drop_after(), times=None, request_id=request_id)
    before = len(asyncio.all_tasks())

    async with (
        in_process(emulator, ledger=store) as one,
        in_process(emulator, ledger=store) as other,
    ):
        held = asyncio.create_task(one.result(request_id, accept_second_charge=True))
        await asyncio.sleep(1)
        deciders = [pay(other, request_id) for _ in range(40)]
        await asyncio.sleep(1)
        for decider in deciders:
            decider.cancel()
        await asyncio.gather(*deciders, return_exceptions=True)
        await asyncio.sleep(1)
        moves = len(store.applied)
        left = len(asyncio.all_tasks())
        await asyncio.sleep(10)
        renewals = {"Renew"}
        await asyncio.gather(held, return_exceptions=True)
        await asyncio.sleep(60)

    assert renewals == set(store.kinds[moves : moves + 4])
    assert left - before < 10
    assert {request_id: 2} == emulator.billed


async def test_decision_cancelled_before_byte_0_is_not_carried_out(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    claimed = asyncio.Event()

    async def linger(_: Move) -> None:
        claimed.set()
        await asyncio.sleep(1)

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, linger))) as client:
        decider = pay(client, request_id)
        await claimed.wait()
        decider.cancel()
        await asyncio.sleep(5)
        (entry,) = await client.unresolved()

    assert "uncertain" == entry.state
    assert {request_id: 1} == emulator.result_calls


async def test_decision_of_two_callers_survives_the_first_ones_cancellation(
    emulator: Emulator,
) -> None:
    store = Seen()
    request_id = await left_uncertain(emulator, store)

    async def linger(_: Move) -> None:
        await asyncio.sleep(1)

    async with in_process(emulator, ledger=Handle(store, after=on(Claim, linger))) as client:
        first, second = pay(client, request_id), pay(client, request_id)
        await asyncio.sleep(0.5)
        first.cancel()
        result = await second

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.result_calls
    assert 2 == store.kinds.count("Claim")  # the call that was left uncertain, and this one


async def test_decision_does_not_cover_what_a_live_call_turns_out_to_be(
    emulator: Emulator,
) -> None:
    """It was made while another client's call was under way; that one then breaks off."""
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


async def test_decision_about_an_owner_that_is_gone_is_carried_out(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    store = MemoryLedger()
    key = Key("http://127.0.0.1:80", request_id)
    job = make_job("veo-3", request_id)
    await store.apply(key, Claim(job, "gone", "a1", 10.0))
    await store.apply(key, Arm("a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        began = asyncio.get_running_loop().time()
        result = await client.result(request_id, accept_second_charge=True)
        took = asyncio.get_running_loop().time() - began

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls
    assert 10 < took < 12


async def test_decided_call_that_cost_nothing_is_tried_again(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)
    emulator.fault("result", Fault.error(503), times=2, request_id=request_id)

    async with in_process(emulator, ledger=store) as client:
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


async def test_decided_call_that_keeps_failing_leaves_the_question_open(
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


async def test_refetch_ends_with_the_last_waiter(emulator: Emulator) -> None:
    store = MemoryLedger()
    request_id = await left_uncertain(emulator, store)

    async def linger(_: Move) -> None:
        await asyncio.sleep(1)

    handle = Handle(store, after=on(Claim, linger))
    async with in_process(emulator, ledger=handle, on_uncertain="refetch") as client:
        waiting = asyncio.create_task(client.wait_for(request_id))
        await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.sleep(30)

    assert {request_id: 1} == emulator.result_calls


def yes() -> bool:
    return True


A1 = Decision("a1", None, yes)
A1_HELD = Decision("a1", 10.0, yes)
A2 = Decision("a2", None, yes)


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], None),
        ([Release("a1")], None),
        ([Fail("no", "a1")], None),
        ([Arm("a1", 10.0), Uncertain("a1", "sent", "it broke off")], "a1"),
    ],
)
async def test_only_what_is_open_can_be_decided_about(
    moves: list[Move], expected: str | None
) -> None:
    store = MemoryLedger()
    job = make_job("veo-3", "reef")
    key = Key("http://127.0.0.1:80", "reef")

    await store.apply(key, Claim(job, "me", "a1", 10.0) if moves else Remember(job))
    for move in moves:
        await store.apply(key, move)
    seen = await store.apply(key, Look(job))

    assert seen is not None
    assert (expected and Decision(expected, None, yes)) == decide(seen.entry, yes)


async def test_decision_about_a_call_under_way_is_bound_to_its_lease() -> None:
    store = MemoryLedger()
    job = make_job("veo-3", "reef")
    key = Key("http://127.0.0.1:80", "reef")

    claimed = await store.apply(key, Claim(job, "me", "a1", 10.0))

    assert claimed is not None
    assert Decision("a1", claimed.entry.lease_until, yes) == decide(claimed.entry, yes)


@pytest.mark.parametrize(
    ("model", "decision", "resting_on", "expected"),
    [
        ("veo-3", None, [], True),
        ("veo-3", None, [A1], True),
        ("veo-3", A1, [A1_HELD], True),
        ("veo-3", A1, [A2], False),
        ("veo-3", A1, [], False),
        ("veo-2", None, [], False),
        ("veo-2", A1, [A1], False),
    ],
)
async def test_attempt_is_shared_by_those_who_want_the_same(
    model: str, decision: Decision | None, resting_on: list[Decision], *, expected: bool
) -> None:
    async def attempt() -> Result | Held:
        return Held()

    task = asyncio.create_task(attempt())
    flight = Flight(make_job("veo-3", "reef"), task, resting_on)
    await task

    assert expected is flight.serves(make_job(model, "reef"), decision)


async def test_unreadable_answer_that_is_not_stored_yet_can_be_paid_over(
    emulator: Emulator,
) -> None:
    """The ledger refused it once, and takes it when the decision is made."""
    request_id = emulator.add_job()
    emulator.fault("result", Fault.garble())
    refusing = True

    async def refuse(_: Move) -> None:
        if refusing:
            raise OSError("the ledger is out of reach")

    handle = Handle(MemoryLedger(), before=on(Store, refuse))
    async with in_process(emulator, ledger=handle) as client:
        with pytest.raises(InvalidResponseError):
            await client.result(request_id)
        refusing = False
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed
