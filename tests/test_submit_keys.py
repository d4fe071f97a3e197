"""`submit(key=)`: one job for each key, after crashes and in every process of the ledger."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import attrs
import pytest
from ledgers import Handle, Losing, Seen, fail, forever, on, refuse
from support import KEY, in_process, in_virtual_time, on_socket, two_clients

from modelmax_async import (
    BadRequestError,
    JobFailedError,
    KeyConflictError,
    LedgerError,
    MemoryLedger,
    RetryPolicy,
    SQLiteLedger,
    StatusReport,
    SubmitUncertainError,
    TransportError,
    VideoParameters,
)
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, JobSubmitted, SubmitDiscarded
from modelmax_async.ledger import Bind, Move, Reserve

pytestmark = pytest.mark.anyio


@in_virtual_time
async def test_same_key_and_request_return_the_recorded_job_without_a_call(
    emulator: Emulator,
) -> None:
    async with two_clients(emulator, MemoryLedger()) as (one, other):
        first = await one.submit("a reef", key="row-17")
        again = await other.submit("a reef", key="row-17")
        result = await other.wait_for(again)
        after = await one.submit("a reef", key="row-17")

    assert first == again == after
    assert "row-17" == first.key
    assert first.submitted_at is not None
    assert 1 == len(emulator.jobs)
    assert first.request_id == result.request_id


async def test_key_survives_the_process(emulator: Emulator, url: str, tmp_path: Path) -> None:
    jobs = []
    for _ in range(2):
        async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
            jobs.append(await client.submit("a reef", key="row-17"))
            pending = await client.pending()

    assert jobs[0] == jobs[1]
    assert [jobs[0]] == pending
    assert 1 == len(emulator.jobs)


@in_virtual_time
@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "a wreck"},
        {"model": "veo-3-fast"},
        {"parameters": VideoParameters(resolution="4k")},
    ],
    ids=str,
)
async def test_same_key_for_another_request_is_a_conflict(
    emulator: Emulator, other: dict[str, Any]
) -> None:
    async with in_process(emulator) as client:
        job = await client.submit("a reef", key="row-17")
        with pytest.raises(KeyConflictError, match="row-17") as caught:
            await client.submit(**({"prompt": "a reef", "key": "row-17"} | other))

    assert isinstance(caught.value, ValueError)
    assert (job, "row-17") == (caught.value.job, caught.value.key)
    assert 1 == len(emulator.jobs)


@in_virtual_time
async def test_order_of_the_parameters_makes_no_other_request(emulator: Emulator) -> None:
    one, other = {"seed": 1, "style": "x"}, {"style": "x", "seed": 1}

    async with in_process(emulator) as client:
        first = await client.submit("a", key="k", parameters=VideoParameters(extra=one))
        again = await client.submit("a", key="k", parameters=VideoParameters(extra=other))

    assert first == again


@in_virtual_time
@pytest.mark.parametrize("key", ["", "  ", "a\nb", "x" * 1025, 17, "\ud800"])
async def test_unusable_key_is_refused_before_any_io(emulator: Emulator, key: Any) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="key must"):
            await client.submit("a reef", key=key)

    assert [] == emulator.requests


@in_virtual_time
async def test_two_at_once_with_one_key_send_one_request(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.hang(20))

    async with two_clients(emulator, MemoryLedger()) as (one, other):
        submits = (client.submit("a reef", key="row-17") for client in (one, other, one))
        jobs = await asyncio.gather(*submits)

    assert 1 == len(set(jobs)) == len(emulator.jobs)


@in_virtual_time
@pytest.mark.parametrize("fault", [Fault.drop_after(), Fault.error(504), Fault.garble()])
async def test_submit_of_unknown_outcome_is_sent_again_with_its_key(
    emulator: Emulator, fault: Fault
) -> None:
    emulator.fault("submit", fault)

    async with in_process(emulator) as client:
        with pytest.raises(SubmitUncertainError, match="again with the same key"):
            await client.submit("a reef", key="row-17")
        loop = asyncio.get_running_loop()
        start = loop.time()
        job = await client.submit("a reef", key="row-17")
        took = loop.time() - start
        await client.wait_for(job)

    assert took < 1  # no lease is waited for
    assert {job.request_id: 1} == {k: n for k, n in emulator.billed.items() if n}


@in_virtual_time
async def test_refused_submit_frees_its_key(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.error(400))

    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError):
            await client.submit("a reef", key="row-17")
        job = await client.submit("another reef", key="row-17")

    assert "row-17" == job.key


@in_virtual_time
async def test_submit_that_was_never_sent_frees_its_key() -> None:
    ledger = MemoryLedger()
    async with in_process(
        Emulator(api_key=KEY), base_url="http://127.0.0.1:9", http_client=None, ledger=ledger,
        retry=RetryPolicy(attempts=1),
    ) as client:  # fmt: skip
        with pytest.raises(TransportError) as caught:
            await client.submit("a reef", key="row-17")

    assert not caught.value.maybe_sent
    assert {} == ledger._keys._kept


@in_virtual_time
async def test_failed_job_keeps_its_key(emulator: Emulator) -> None:
    emulator.script(JobScript(outcome="FAILED"))

    async with in_process(emulator) as client:
        job = await client.submit("a reef", key="row-17")
        with pytest.raises(JobFailedError):
            await client.wait_for(job)
        again = await client.submit("a reef", key="row-17")

    assert job == again
    assert 1 == len(emulator.jobs)


@in_virtual_time
async def test_late_response_of_a_paused_owner_gives_its_job_up(emulator: Emulator) -> None:
    """Two POSTs of one key, one of them late: one bill."""
    store = MemoryLedger()
    heard: list[Event] = []
    emulator.fault("submit", Fault.hang(25))
    late = Handle(store, before=on_renewals_fail)

    async with (
        in_process(emulator, ledger=late, hooks=[heard.append]) as paused,
        in_process(emulator, ledger=store) as other,
    ):
        first = asyncio.create_task(paused.submit("a reef", key="row-17"))
        await asyncio.sleep(1)
        second = await other.submit("a reef", key="row-17")
        results = await asyncio.gather(paused.wait_for(await first), other.wait_for(second))

    [discarded] = [event for event in heard if isinstance(event, SubmitDiscarded)]

    assert second == await first == discarded.job
    assert 2 == len(emulator.jobs)
    assert {second.request_id, discarded.discarded.request_id} == set(emulator.jobs)
    assert not any(isinstance(event, JobSubmitted) for event in heard)
    assert results[0] == results[1]
    assert 1 == emulator.billed_total


async def on_renewals_fail(move: Move) -> None:
    if type(move).__name__ == "Renew":
        await fail(move)


@in_virtual_time
async def test_crash_in_the_middle_of_a_submit_is_taken_over(emulator: Emulator) -> None:
    store = MemoryLedger()
    await store.apply(*reserved_by_a_dead_process(await fingerprint_of(emulator, "a reef")))

    async with in_process(emulator, ledger=store) as client:
        start = asyncio.get_running_loop().time()
        job = await client.submit("a reef", key="row-17")
        took = asyncio.get_running_loop().time() - start

    assert "row-17" == job.key
    assert 10 < took < 13


async def fingerprint_of(emulator: Emulator, prompt: str) -> str:
    store = Seen()
    async with in_process(emulator, ledger=store) as client:
        await client.submit(prompt, key="to look at")
    [reserve] = [move for _, move in store.applied if isinstance(move, Reserve)]

    return reserve.fingerprint


def reserved_by_a_dead_process(print_: str) -> Any:
    from support import ORIGIN  # noqa: PLC0415 - of this helper alone

    from modelmax_async.ledger import SubmitKey  # noqa: PLC0415 - as above

    return SubmitKey(ORIGIN, "row-17"), Reserve(print_, "dead", 10.0)


@in_virtual_time
async def test_slow_submit_keeps_its_key_reserved(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.hang(28))

    async with two_clients(emulator, MemoryLedger()) as (one, other):
        first = asyncio.create_task(one.submit("a reef", key="row-17"))
        await asyncio.sleep(1)
        second = await other.submit("a reef", key="row-17")

    assert second == await first
    assert 1 == len(emulator.jobs)


@in_virtual_time
async def test_job_that_the_ledger_did_not_bind_is_not_returned(emulator: Emulator) -> None:
    """Fetched now, and submitted again by a later run, it would be paid for twice."""
    store = MemoryLedger()
    flaky = Handle(store, before=on(Bind, refuse))

    async with in_process(emulator, ledger=flaky) as client:
        with pytest.raises(LedgerError):
            await client.submit("a reef", key="row-17")
        flaky.before = None
        job = await client.submit("a reef", key="row-17")
        await client.wait_for(job)

    assert 1 == emulator.billed_total


@in_virtual_time
async def test_lost_answer_of_the_ledger_is_read_back(emulator: Emulator) -> None:
    store = MemoryLedger()
    flaky = Handle(store, after=on(Bind, refuse))

    async with in_process(emulator, ledger=flaky) as client:
        with pytest.raises(LedgerError):
            await client.submit("a reef", key="row-17")
        [listed] = await client.pending()  # the key alone names it
        job = await client.submit("a reef", key="row-17")

    assert listed == job
    assert 1 == len(emulator.jobs)


@in_virtual_time
async def test_ledger_that_cannot_keep_keys_says_so_before_any_submit(
    emulator: Emulator,
) -> None:
    async with in_process(emulator, ledger=Losing(Reserve)) as client:
        with pytest.raises(LedgerError, match="does not support SubmitKey"):
            await client.submit("a reef", key="row-17")

    assert 0 == len(emulator.jobs)


@in_virtual_time
async def test_ledger_that_hangs_ends_the_submit(emulator: Emulator) -> None:
    async def hang(_: Move) -> None:
        await forever()

    async with in_process(emulator, ledger=Handle(MemoryLedger(), before=hang)) as client:
        with pytest.raises(LedgerError, match="did not answer within 30 seconds about key"):
            await client.submit("a reef", key="row-17")

    assert 0 == len(emulator.jobs)


@in_virtual_time
async def test_uncertain_submit_stays_uncertain_if_the_ledger_fails_too(
    emulator: Emulator,
) -> None:
    emulator.fault("submit", Fault.drop_after())
    flaky = Handle(MemoryLedger())

    async def fail_then(move: Move) -> None:
        if not isinstance(move, Reserve):
            await refuse(move)

    flaky.before = fail_then
    async with in_process(emulator, ledger=flaky) as client:
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef", key="row-17")


@in_virtual_time
async def test_cancelled_submit_with_a_key_goes_on(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.hang(5))

    async with in_process(emulator) as client:
        submit = asyncio.create_task(client.submit("a reef", key="row-17"))
        await asyncio.sleep(1)
        submit.cancel()
        await asyncio.wait([submit])
        job = await client.submit("a reef", key="row-17")

    assert submit.cancelled()
    assert {job.request_id} == set(emulator.jobs)


@in_virtual_time
async def test_generate_with_a_key_pays_once(emulator: Emulator) -> None:
    seen: list[StatusReport] = []

    async with in_process(emulator) as client:
        first = await client.generate("a reef", key="k", on_status=seen.append)
        again = await client.generate("a reef", key="k")

    assert first == again
    assert "COMPLETED" == seen[-1].status
    assert 1 == emulator.billed_total


@in_virtual_time
async def test_forgotten_key_may_be_given_to_another_request(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        job = await client.submit("a reef", key="row-17")
        await client.forget(job)
        other = await client.submit("a wreck", key="row-17")
        pending = await client.pending()

    assert [other] == pending
    assert attrs.evolve(job, key=None) != other
