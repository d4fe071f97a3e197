"""What the ledger lists, and what is marked, forgotten and pruned."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from ledgers import Handle, Pause, forever, on, refuse, states
from support import ORIGIN, in_process, in_virtual_time, on_socket, two_clients

from modelmax_async import (
    AuthenticationError,
    BadRequestError,
    DownloadError,
    JobError,
    JobFailedError,
    Ledger,
    LedgerEntry,
    LedgerError,
    MemoryLedger,
    NotFoundError,
    Result,
    ResultDroppedError,
    ResultUncertainError,
    SQLiteLedger,
    Video,
    VideoParameters,
)
from modelmax_async._api.paths import make_job
from modelmax_async._billing import records
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, LedgerFailed
from modelmax_async.ledger import (
    Arm,
    Bind,
    Claim,
    Forget,
    Key,
    MarkSaved,
    Move,
    Reserve,
    SubmitKey,
)

pytestmark = pytest.mark.anyio


@in_virtual_time
async def test_stored_lists_paid_results_until_they_are_downloaded(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with in_process(emulator) as client:
        first, second = [await client.submit(name) for name in ("a", "b")]
        result = await client.wait_for(first)
        await client.wait_for(second)
        before = await client.stored(unsaved=True)
        await client.download(result, tmp_path)
        after = await client.stored(unsaved=True)
        every = await client.stored()

    assert [first, second] == before == every
    assert [second] == after


@in_virtual_time
async def test_restart_downloads_what_was_paid_for(emulator: Emulator, tmp_path: Path) -> None:
    store = MemoryLedger()
    async with in_process(emulator, ledger=store) as client:
        await client.generate("a reef")

    async with in_process(emulator, ledger=store) as client:
        for job in await client.stored(unsaved=True):
            await client.download(await client.wait_for(job), tmp_path)
        left = await client.stored(unsaved=True)

    assert 1 == len(list(tmp_path.iterdir()))
    assert 1 == emulator.billed_total
    assert [] == left


@in_virtual_time
async def test_mark_saved_is_for_those_who_stream(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        job = await client.submit("a reef")
        for unpaid in (job, "unknown"):
            with pytest.raises(ValueError, match="wait for it first"):
                await client.mark_saved(unpaid)
        await client.wait_for(job)
        await client.mark_saved(job.request_id)
        left = await client.stored(unsaved=True)

    assert [] == left


@in_virtual_time
async def test_failed_download_leaves_the_result_unsaved(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.error(400))

    async with in_process(emulator) as client:
        result = await client.generate("a reef")
        with pytest.raises(DownloadError):
            await client.download(result, tmp_path)
        left = await client.stored(unsaved=True)

    assert [result.request_id] == [job.request_id for job in left]


@in_virtual_time
async def test_download_goes_on_if_the_ledger_cannot_note_it(
    emulator: Emulator, tmp_path: Path
) -> None:
    heard: list[Event] = []
    flaky = Handle(MemoryLedger(), before=on(MarkSaved, refuse))

    async with in_process(emulator, ledger=flaky, hooks=[heard.append]) as client:
        paths = await client.download(await client.generate("a reef"), tmp_path)

    assert paths[0].exists()
    assert 1 == len([event for event in heard if isinstance(event, LedgerFailed)])


async def test_result_of_the_users_own_is_downloaded_without_a_record(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url) as client:
        made = await client.generate("a reef")
        own = Result(made.request_id, "", (Video(made.videos[0].url, 0),))
        paths = await client.download(own, tmp_path)
        left = await client.stored(unsaved=True)

    assert paths[0].exists()
    assert 1 == len(left)


@in_virtual_time
async def test_forget_takes_a_job_off_the_list_for_good(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        job = await client.submit("a reef")
        await client.forget(job)
        await client.forget(job)
        pending = await client.pending()
        with pytest.raises(JobError, match="gave it up with forget"):
            await client.wait_for(job)
        calls = emulator.billed_total
        await client.result(job, accept_second_charge=True)

    assert ([], 0, 1) == (pending, calls, emulator.billed_total)


@in_virtual_time
async def test_forgotten_failed_job_stays_failed_and_frees_its_key(emulator: Emulator) -> None:
    emulator.script(JobScript(outcome="FAILED"), JobScript())

    async with in_process(emulator) as client:
        job = await client.submit("a reef", key="row-17")
        for _ in range(2):
            with pytest.raises(JobFailedError):
                await client.wait_for(job)
            await client.forget(job)
        again = await client.generate("a reef", key="row-17")

    assert job.request_id != again.request_id


@in_virtual_time
async def test_forgotten_job_is_not_billed_to_those_who_wait_already(
    emulator: Emulator,
) -> None:
    """Its key may belong to another request by then."""
    emulator.script(JobScript(run_seconds=60))

    async with two_clients(emulator, MemoryLedger()) as (one, other):
        waiting = asyncio.create_task(one.generate("a reef", key="row-17"))
        await asyncio.sleep(20)
        [job] = await other.pending()
        await other.forget(job)
        again = await other.generate("a reef", key="row-17")
        with pytest.raises(JobError, match="gave it up"):
            await waiting

    assert {again.request_id: 1} == {k: n for k, n in emulator.billed.items() if n}


@in_virtual_time
async def test_claim_on_its_way_to_a_slow_ledger_is_void_after_forget(
    emulator: Emulator,
) -> None:
    store = MemoryLedger()
    slow = Handle(store, before=on(Claim, Pause(3.0)))

    async with (
        in_process(emulator, ledger=slow) as one,
        in_process(emulator, ledger=store) as two,
    ):
        job = await one.submit("a reef", key="row-17")
        waiting = asyncio.create_task(one.wait_for(job))
        while not emulator.polls[job.request_id]:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        waiting.cancel()
        await two.forget(job)
        await asyncio.sleep(10)
        await two.generate("a reef", key="row-17")

    assert 0 == emulator.billed[job.request_id]
    assert 1 == emulator.billed_total


async def test_forget_beside_the_same_key_never_pays_twice(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    """Either the job is forgotten and another one made, or it is paid for and stays."""
    path = tmp_path / "runs.db"
    one, other = (on_socket(url, ledger=SQLiteLedger(path)) for _ in range(2))
    async with one, other:
        for number in range(12):
            key = f"row-{number}"
            job = await one.submit("a reef", key=key)
            racing = (one.forget(job), other.generate("a reef", key=key))
            await asyncio.gather(*racing, return_exceptions=True)
            await asyncio.gather(other.generate("a reef", key=key), return_exceptions=True)
        stored = Counter(job.key for job in await one.stored())

    assert emulator.billed_total == stored.total()
    assert 1 == max(stored.values())


@in_virtual_time
async def test_key_that_cannot_be_freed_is_reported(emulator: Emulator) -> None:
    store = MemoryLedger()
    flaky = Handle(store)

    async def refuse_keys(move: Move) -> None:
        if isinstance(move, Forget) and "abandoned" in states(store):
            await refuse(move)

    async with in_process(emulator, ledger=flaky) as client:
        job = await client.submit("a reef", key="row-17")
        flaky.before = refuse_keys
        with pytest.raises(LedgerError):
            await client.forget(job)
        with pytest.raises(JobError, match="gave it up"):
            await client.generate("a reef", key="row-17")
        flaky.before = None
        await client.forget(job)
        await client.generate("a reef", key="row-17")

    assert 1 == emulator.billed_total


@in_virtual_time
async def test_client_that_refetches_respects_what_another_one_gave_up(
    emulator: Emulator,
) -> None:
    emulator.fault("result", Fault.drop_after())
    emulator.fault("result", Fault.error(503, retry_after="20"), times=3)
    store = MemoryLedger()

    async with (
        in_process(emulator, ledger=store, on_uncertain="refetch") as eager,
        in_process(emulator, ledger=store) as other,
    ):
        job = await other.submit("a reef")
        waiting = asyncio.create_task(eager.wait_for(job))
        while not await other.unresolved() or emulator.result_calls[job.request_id] < 2:
            await asyncio.sleep(1)
        await other.forget(job)
        with pytest.raises(ResultUncertainError, match="you abandoned the job"):
            await waiting

    assert 1 == emulator.billed_total


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_bound_job_stays_pending_whatever_a_bare_fetch_leaves(
    emulator: Emulator, url: str, kind: str, tmp_path: Path
) -> None:
    ledger: Ledger = MemoryLedger() if kind == "memory" else SQLiteLedger(tmp_path / "runs.db")
    job = attrs.evolve(make_job("veo-3", emulator.add_job()), key="row-17")
    await ledger.apply(SubmitKey(url, "row-17"), Bind("print", "a1", job))
    emulator.fault("result", Fault.error(401))

    async with on_socket(url, ledger=ledger) as client:
        with pytest.raises(AuthenticationError):
            await client.result(job.request_id)
        [pending] = await client.pending()
        await client.forget(job.request_id)
        after = await client.pending()

    assert (job.request_id, "row-17", []) == (pending.request_id, pending.key, after)


@in_virtual_time
async def test_job_of_a_202_is_acknowledged_whoever_fetches_it(emulator: Emulator) -> None:
    emulator.fault("result", Fault.error(404), times=None)

    async with in_process(emulator) as elsewhere:
        job = await elsewhere.submit("a reef")
    async with in_process(emulator, ledger=MemoryLedger()) as client:
        with pytest.raises(NotFoundError):
            await client.result(job)
        pending = await client.pending()

    assert [job] == pending


@in_virtual_time
async def test_download_of_a_part_of_the_videos_marks_nothing(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with in_process(emulator) as client:
        result = await client.generate("a reef", parameters=VideoParameters(sample_count=3))
        for videos in (result.videos[:1], ()):
            await client.download(attrs.evolve(result, videos=videos), tmp_path)
        before = await client.stored(unsaved=True)
        await client.download(result, tmp_path)
        after = await client.stored(unsaved=True)

    assert (1, 0) == (len(before), len(after))


async def test_list_that_hangs_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(MemoryLedger):
        async def entries(self, origin: str, states: Any) -> list[LedgerEntry]:
            await forever()
            raise AssertionError

    monkeypatch.setattr(records, "ANSWER", 0.05)
    async with on_socket(url, ledger=Hanging()) as client:
        with pytest.raises(LedgerError, match="did not list its jobs"):
            await client.pending()


@in_virtual_time
async def test_forget_abandons_an_uncertain_job(emulator: Emulator) -> None:
    emulator.fault("result", Fault.drop_after())

    async with in_process(emulator) as client:
        job = await client.submit("a reef")
        with pytest.raises(ResultUncertainError):
            await client.wait_for(job)
        await client.forget(job.request_id)
        await client.forget(job.request_id)
        lists = (await client.unresolved(), await client.pending(), await client.stored())
        with pytest.raises(ResultUncertainError, match="you abandoned the job"):
            await client.wait_for(job)
        calls = emulator.billed_total
        await client.result(job, accept_second_charge=True)

    assert ([], [], []) == lists
    assert (1, 2) == (calls, emulator.billed_total)


@in_virtual_time
async def test_abandoned_job_that_may_be_billed_keeps_its_key(emulator: Emulator) -> None:
    emulator.fault("result", Fault.drop_after())

    async with in_process(emulator) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.generate("a reef", key="row-17")
        await client.forget(caught.value.job)
        with pytest.raises(ResultUncertainError, match="you abandoned the job"):
            await client.generate("a reef", key="row-17")

    assert (1, 1) == (len(emulator.jobs), emulator.billed_total)


@in_virtual_time
async def test_forget_never_drops_a_paid_result(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        job = await client.submit("a reef", key="row-17")
        result = await client.wait_for(job)
        with pytest.raises(ValueError, match="paid for"):
            await client.forget(job)
        again = await client.wait_for(await client.submit("a reef", key="row-17"))

    assert result == again
    assert 1 == emulator.billed_total


@in_virtual_time
async def test_forget_leaves_a_fetch_in_progress_alone(emulator: Emulator) -> None:
    job = emulator.add_job()
    emulator.fault("result", Fault.hang(20), request_id=job)

    async with two_clients(emulator, MemoryLedger()) as (one, other):
        wait = asyncio.create_task(one.wait_for(job))
        await asyncio.sleep(5)
        with pytest.raises(ValueError, match="is being fetched"):
            await other.forget(job)
        result = await wait

    assert job == result.request_id


@in_virtual_time
@pytest.mark.parametrize("armed", [False, True])
async def test_forget_takes_over_from_an_owner_that_is_gone(
    emulator: Emulator, armed: bool
) -> None:
    store = MemoryLedger()
    key, job = Key(ORIGIN, "reef"), make_job("veo-3", "reef")
    await store.apply(key, Claim(job, "dead", "a1", 10.0, acknowledged=True))
    if armed:
        await store.apply(key, Arm("a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        await client.forget("reef")

    [entry] = store._entries.values()
    assert ("abandoned", "sent" if armed else None) == (entry.state, entry.phase)


@in_virtual_time
@pytest.mark.parametrize("bare", [False, True])
async def test_forget_frees_a_key_whose_job_has_no_entry_yet(
    emulator: Emulator, bare: bool
) -> None:
    store = MemoryLedger()
    job = attrs.evolve(make_job("veo-3", "reef"), key="row-17")
    await store.apply(SubmitKey(ORIGIN, "row-17"), Bind("print", "a1", job))
    await store.apply(SubmitKey(ORIGIN, "open"), Reserve("print", "a1", 10.0))

    async with in_process(emulator, ledger=store) as client:
        [listed] = await client.pending()
        await client.forget(listed.request_id if bare else listed)
        left = await client.pending()

    assert ("reef", []) == (listed.request_id, left)
    assert {"open"} == {key.key for key in store._keys._kept}


@in_virtual_time
@pytest.mark.parametrize("status", [400, 404])
async def test_id_that_the_server_does_not_know_leaves_nothing_behind(
    emulator: Emulator, status: int
) -> None:
    """Neither a wait nor a direct fetch does."""
    emulator.fault("status", Fault.error(status), times=None)
    emulator.fault("result", Fault.error(status), times=None)
    store = MemoryLedger()

    async with in_process(emulator, ledger=store) as client:
        for call in (client.wait_for, client.result):
            with pytest.raises((BadRequestError, NotFoundError)):
                await call("mistyped")
        results = await client.gather_results(await client.pending())

    assert [] == results
    assert {} == store._entries


@in_virtual_time
async def test_prune_drops_what_was_saved_long_ago(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        old, unsaved = [await client.submit(name) for name in ("a", "b")]
        await client.gather_results([old, unsaved])
        await client.mark_saved(old)
        kept = await client.prune(timedelta(days=1))
        dropped = await client.prune(timedelta(0))
        with pytest.raises(ResultDroppedError):
            await client.wait_for(old)
        left = await client.stored()

    assert (0, 1) == (kept, dropped)
    assert [unsaved] == left
    assert 2 == emulator.billed_total


@in_virtual_time
@pytest.mark.parametrize("age", [timedelta(seconds=-1), 30, None])
async def test_prune_refuses_what_is_no_age(emulator: Emulator, age: Any) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="older_than must be a timedelta"):
            await client.prune(age)


async def test_pruned_file_remembers_what_was_paid_for(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        job = await client.submit("a reef", key="row-17")
        await client.download(await client.wait_for(job), tmp_path / "out")
        dropped = await client.prune(timedelta(0))
        again = await client.submit("a reef", key="row-17")
        with pytest.raises(ResultDroppedError):
            await client.wait_for(again)

    assert 1 == dropped
    assert job == again
    assert 1 == emulator.billed_total


@in_virtual_time
async def test_forgetting_an_unknown_id_does_nothing(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        await client.forget("never heard of")
        pending = await client.pending()

    assert [] == pending


@in_virtual_time
@pytest.mark.parametrize("body", [None, b"unreadable"])
async def test_result_that_the_ledger_cannot_read_is_saved_without_a_mark(
    emulator: Emulator, tmp_path: Path, body: bytes | None
) -> None:
    store = MemoryLedger()
    async with in_process(emulator, ledger=store) as client:
        result = await client.generate("a reef")
        [key] = store._entries
        store._entries[key] = attrs.evolve(store._entries[key], body=body)
        paths = await client.download(result, tmp_path)

    assert paths[0].exists()
    assert store._entries[key].saved_at is None
