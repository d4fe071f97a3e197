"""What is believed of an answer, and which of two paid answers is kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs
import pytest
from ledgers import Handle, on
from support import in_process, in_virtual_time, late

from modelmax_async import (
    BadRequestError,
    InvalidResponseError,
    Job,
    JobFailedError,
    JobTimeoutError,
    MemoryLedger,
    PollPolicy,
    Result,
    ResultUncertainError,
)
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import AnswerDiscarded, Event, ResultStored
from modelmax_async.ledger import Arm, Claim, Fail, Key, Move, Remember, Renew, Store, Uncertain

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def unsure(_: Move) -> None:
    raise OSError("the ledger is out of reach")


async def test_late_unreadable_answer_does_not_displace_the_one_paid_for_again(
    emulator: Emulator,
) -> None:
    """The first client was taken for gone; its garbage arrives during the second call."""
    request_id = emulator.add_job()
    emulator.fault("result", late(Fault.garble(b"\x80"), 25))
    emulator.fault("result", Fault.hang(25))
    store = MemoryLedger()
    seen: list[Event] = []

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, unsure))) as one,
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


async def test_readable_answer_replaces_a_later_call_s_garbage(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(25))
    emulator.fault("result", Fault.garble(b"\x80"))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=Handle(store, before=on(Renew, unsure))) as one,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(one.result(request_id))
        await asyncio.sleep(1)
        with pytest.raises(InvalidResponseError):
            await other.result(request_id, accept_second_charge=True)
        result = await first
        again = await other.wait_for(request_id)

    assert result == again


async def test_second_readable_answer_is_reported_and_the_first_is_served(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.hang(25))
    store = MemoryLedger()
    seen: list[Event] = []

    async with (
        in_process(
            emulator, ledger=Handle(store, before=on(Renew, unsure)), hooks=[seen.append]
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


async def test_uncertain_job_never_fails_by_what_status_says(emulator: Emulator) -> None:
    """It was billed. Another waiter, already polling, then sees FAILED."""
    request_id = emulator.add_job(script=JobScript(statuses=("IN_PROGRESS", "FAILED")))
    emulator.fault("result", Fault.drop_after())
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=store) as one,
        in_process(emulator, ledger=store) as other,
    ):
        watching = asyncio.create_task(other.wait_for(request_id))
        await asyncio.sleep(0.5)
        with pytest.raises(ResultUncertainError):
            await one.result(request_id)
        ended = (await asyncio.gather(watching, return_exceptions=True))[0]
        (entry,) = await one.unresolved()

    assert isinstance(ended, ResultUncertainError)
    assert "uncertain" == entry.state


async def test_call_under_way_is_waited_for_though_status_says_failed(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(statuses=("COMPLETED", "FAILED")))
    emulator.fault("result", Fault.hang(20))
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=store) as one,
        in_process(emulator, ledger=store) as other,
    ):
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

    async with (
        in_process(emulator, ledger=store) as one,
        in_process(emulator, ledger=store) as other,
    ):
        watching = asyncio.create_task(other.wait_for(request_id))
        await asyncio.sleep(0.5)
        paid = await one.wait_for(request_id)
        result = await watching

    assert paid == result


async def test_failed_answer_to_a_decided_call_leaves_the_earlier_charge_open(
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


@pytest.mark.parametrize(
    ("error", "expected"), [("blocked by a filter", "blocked"), ("", "no reason given")]
)
async def test_failure_that_no_ledger_takes_is_raised_all_the_same(
    emulator: Emulator, error: str, expected: str
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED", error=error))
    ledger = Handle(MemoryLedger(), before=on(Fail, unsure))

    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(JobFailedError, match=expected):
            await client.wait_for(request_id)
        with pytest.raises(JobFailedError):
            await client.result(request_id)


OTHERS: dict[str, dict[str, Any]] = {
    "completed": {"status": "COMPLETED", "data": [{"url": "/v1/x"}]},
    "in progress": {"status": "IN_PROGRESS"},
    "failed": {"status": "FAILED", "error": "no"},
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS.keys())
async def test_paid_answer_about_another_job_is_stored_like_any_unreadable_one(
    emulator: Emulator, body: dict[str, Any]
) -> None:
    request_id = emulator.add_job()
    answer = json.dumps({"request_id": "another", **body}).encode()
    emulator.fault("result", Fault.raw(200, answer))

    async with in_process(emulator) as client:
        for _ in range(2):
            with pytest.raises(InvalidResponseError, match="another job"):
                await client.wait_for(request_id)
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.result_calls


async def test_status_about_another_job_is_not_believed(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=20))
    for word in ("COMPLETED", "FAILED"):
        body = json.dumps({"request_id": "another", "status": word}).encode()
        emulator.fault("status", Fault.raw(200, body))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("spelling", ["abc+/x", "abc%2B%2Fx==", "abc%2b/x="])
async def test_other_spellings_of_an_id_name_the_same_job(
    emulator: Emulator, spelling: str
) -> None:
    request_id = emulator.add_job("abc+/x==", script=JobScript(extra={"request_id": spelling}))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


async def test_wrong_model_ends_only_those_who_named_it(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=20))

    async with in_process(emulator) as client:
        wrong = asyncio.create_task(client.wait_for(request_id, model="veo-2"))
        right = asyncio.create_task(client.wait_for(request_id, model="veo-3"))
        await asyncio.sleep(5)
        pending = await client.pending()
        ended = await asyncio.gather(wrong, right, return_exceptions=True)

    assert [make_job("veo-3", request_id)] == pending
    assert isinstance(ended[0], BadRequestError)
    assert isinstance(ended[1], Result)


async def test_wrong_model_in_a_batch_touches_no_other(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    jobs = [Job("veo-2", request_id), Job("veo-3", request_id)]

    async with in_process(emulator) as client:
        wrong, right = await client.gather_results(jobs, return_exceptions=True)

    assert isinstance(wrong, BadRequestError)
    assert isinstance(right, Result)
    assert {request_id: 1} == emulator.billed


async def test_wrong_model_of_a_billed_call_is_not_shared(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        wrong, right = await asyncio.gather(
            client.result(request_id, model="veo-2"),
            client.result(request_id, model="veo-3"),
            return_exceptions=True,
        )
        pending = await client.pending()

    assert isinstance(wrong, BadRequestError)
    assert isinstance(right, Result)
    assert [] == pending


async def test_wrong_model_that_was_recorded_is_put_right(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=20))
    store = MemoryLedger()
    key = Key("http://127.0.0.1:80", request_id)
    await store.apply(key, Remember(make_job("veo-2", request_id)))

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=5)
        pending = await client.pending()

    assert [make_job("veo-3", request_id)] == pending


async def test_id_that_the_server_never_acknowledged_is_not_pending(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError):
            await client.wait_for("no-such-job")
        with pytest.raises(BadRequestError):
            await client.result("no-such-job")
        pending = await client.pending()

    assert [] == pending


async def test_notify_reaches_the_waits_of_every_model(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=3))
    rarely = PollPolicy(initial=500, maximum=500, jitter=0)

    async with in_process(emulator, poll=rarely) as client:
        with pytest.raises(BadRequestError):
            await client.wait_for("no-such-job", model="veo-2")
        waiting = asyncio.create_task(client.wait_for(request_id, model="veo-3"))
        await asyncio.sleep(5)
        client.notify(request_id)
        async with asyncio.timeout(1):
            result = await waiting

    assert request_id == result.request_id


async def test_given_up_job_is_fetched_only_with_consent(emulator: Emulator) -> None:
    """Not even where uncertain jobs are refetched: the user has decided."""
    request_id = emulator.add_job()
    job = make_job("veo-3", request_id)
    key = Key("http://127.0.0.1:80", request_id)
    store = MemoryLedger()
    for move in (
        Claim(job, "me", "a1", 10.0),
        Arm("a1", 10.0),
        Uncertain("a1", "sent", "it broke off"),
    ):
        await store.apply(key, move)
    store._entries[key] = attrs.evolve(store._entries[key], state="abandoned")

    async with in_process(emulator, ledger=store, on_uncertain="refetch") as client:
        with pytest.raises(ResultUncertainError, match="you abandoned the job"):
            await client.wait_for(request_id)
        with pytest.raises(ResultUncertainError, match="you abandoned the job"):
            await client.result(request_id)
        assert {} == emulator.result_calls
        assert {} == emulator.polls
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id


async def test_answer_stored_by_a_late_first_call_is_served_to_the_second(
    emulator: Emulator,
) -> None:
    """Between the claim and the arm of the decided call: nothing more is paid."""
    request_id = emulator.add_job()
    job = make_job("veo-3", request_id)
    key = Key("http://127.0.0.1:80", request_id)
    store = MemoryLedger()
    emulator.fault("result", Fault.drop_after())
    good = json.dumps(
        {"request_id": request_id, "status": "COMPLETED", "data": [{"url": "/v1/x"}]}
    ).encode()

    async def arrive(_: Move) -> None:
        handle.after = None
        await store.apply(key, Store(job, first, good))

    handle = Handle(store)
    async with in_process(emulator, ledger=handle) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)
        first = str(caught.value.attempt)
        handle.after = on(Claim, arrive)
        result = await client.result(request_id, accept_second_charge=True)

    assert "/v1/x" == result.videos[0].url
    assert {request_id: 1} == emulator.result_calls


async def test_owner_that_is_gone_is_found_out_though_status_says_failed(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED"))
    key, job = Key("http://127.0.0.1:80", request_id), make_job("veo-3", request_id)
    store = MemoryLedger()
    await store.apply(key, Claim(job, "gone", "a1", 10.0))
    await store.apply(key, Arm("a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        async with asyncio.timeout(15):
            with pytest.raises(ResultUncertainError, match="now the server says FAILED"):
                await client.wait_for(request_id)


async def test_claim_of_an_owner_that_is_gone_does_not_hide_a_failure(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(outcome="FAILED"))
    key, job = Key("http://127.0.0.1:80", request_id), make_job("veo-3", request_id)
    store = MemoryLedger()
    await store.apply(key, Claim(job, "gone", "a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(JobFailedError):
            await client.wait_for(request_id)
