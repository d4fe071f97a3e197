"""`generate_many`: many requests, a bounded number at once, each to its outcome."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import id_of, in_process, in_virtual_time, on_socket

from modelmax_async import (
    AsyncQueueClient,
    AuthenticationError,
    ClientStateError,
    DownloadError,
    Failed,
    InsufficientBalanceError,
    JobFailedError,
    JobTimeoutError,
    KeyConflictError,
    MemoryLedger,
    RetryPolicy,
    SQLiteLedger,
    SubmitUncertainError,
    Succeeded,
    VideoParameters,
    VideoRequest,
)
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio


def rows(count: int, *, keyed: bool = True) -> list[VideoRequest]:
    return [VideoRequest(f"row {n}", key=f"row-{n}" if keyed else None) for n in range(count)]


async def every(
    client: AsyncQueueClient, requests: Any, **options: Any
) -> list[Succeeded | Failed]:
    return [outcome async for outcome in client.generate_many(requests, **options)]


@in_virtual_time
async def test_each_request_ends_in_an_outcome(emulator: Emulator, tmp_path: Path) -> None:
    requests = rows(7)

    async with in_process(emulator) as client:
        outcomes = await every(client, requests, max_jobs=3, directory=tmp_path)
        left = await client.stored(unsaved=True)

    assert set(requests) == {outcome.request for outcome in outcomes}
    assert all(outcome.result and outcome.error is None for outcome in outcomes)
    assert {o.request.key for o in outcomes if o.request} == {
        o.job.key for o in outcomes if o.job
    }
    assert (
        7 == len({path for o in outcomes for path in o.paths}) == len(list(tmp_path.iterdir()))
    )
    assert [] == left
    assert 7 == emulator.billed_total


@in_virtual_time
async def test_same_batch_again_neither_submits_nor_pays(
    emulator: Emulator, tmp_path: Path
) -> None:
    store = MemoryLedger()
    paths = []
    for _ in range(2):
        async with in_process(emulator, ledger=store) as client:
            outcomes = await every(client, rows(5), directory=tmp_path)
        paths.append({path for outcome in outcomes for path in outcome.paths})

    assert paths[0] == paths[1]
    assert (5, 5) == (len(emulator.jobs), emulator.billed_total)
    assert 5 == sum(emulator.contents.values())


@in_virtual_time
async def test_requests_are_taken_only_as_jobs_end(emulator: Emulator) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for taken in itertools.count(1):
            yield f"prompt {taken}"

    async with in_process(emulator) as client:
        outcomes = client.generate_many(endless(), max_jobs=3)
        first = [await anext(outcomes) for _ in range(10)]
        await outcomes.aclose()
        most = taken
        submitted = len(emulator.jobs)
        await asyncio.sleep(100)

    assert 10 == len({id_of(outcome) for outcome in first})
    assert most <= 13
    assert submitted == len(emulator.jobs)


@in_virtual_time
async def test_unfinished_outcomes_hold_the_submits_back(emulator: Emulator) -> None:
    """A slow consumer has no more than ``max_jobs`` outcomes waiting for it."""
    async with in_process(emulator) as client:
        outcomes = client.generate_many(rows(20), max_jobs=4)
        await anext(outcomes)
        await asyncio.sleep(500)
        submitted = len(emulator.jobs)
        rest = [outcome async for outcome in outcomes]

    assert submitted <= 5
    assert 19 == len(rest)


@in_virtual_time
async def test_async_iterable_is_taken_as_it_comes(emulator: Emulator) -> None:
    async def slow() -> AsyncIterator[VideoRequest]:
        for n in range(3):
            await asyncio.sleep(100)
            yield VideoRequest(f"prompt {n}")

    seen = []
    async with in_process(emulator) as client:
        start = asyncio.get_running_loop().time()
        async for _ in client.generate_many(slow()):
            seen.append(asyncio.get_running_loop().time() - start)  # noqa: PERF401 - the times matter

    assert [1, 2, 3] == [int(seconds // 100) for seconds in seen]


@in_virtual_time
async def test_failure_touches_no_other_request(emulator: Emulator) -> None:
    scripts = [
        JobScript(),
        JobScript(outcome="FAILED"),
        JobScript(run_seconds=5000),
        JobScript(),
    ]
    emulator.script(*scripts)
    emulator.fault("content", Fault.error(400), times=None)

    async with in_process(emulator) as client:
        outcomes = await every(client, rows(4), max_jobs=1, timeout=600)

    errors = [type(outcome.error) for outcome in outcomes]
    assert [type(None), JobFailedError, JobTimeoutError, type(None)] == errors
    assert all(outcome.job is not None for outcome in outcomes)


@in_virtual_time
async def test_request_that_cannot_be_submitted_has_an_outcome_without_a_job(
    emulator: Emulator,
) -> None:
    emulator.fault("submit", Fault.drop_after())
    same = [VideoRequest("a", key="k"), VideoRequest("b", key="k"), VideoRequest(" "), "a"]

    async with in_process(emulator, max_in_flight=1) as client:
        outcomes = await every(client, [*same], max_jobs=1)

    kinds = [type(outcome.error) for outcome in outcomes]
    assert [SubmitUncertainError, KeyConflictError, ValueError, type(None)] == kinds
    assert [None, None, None] == [outcome.job for outcome in outcomes[:3]]
    assert "prompt must be a non-empty string" in str(outcomes[2].error)


@in_virtual_time
async def test_failed_download_is_an_outcome_and_stays_unsaved(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.error(400))

    async with in_process(emulator) as client:
        first, second = await every(client, rows(2), max_jobs=1, directory=tmp_path)
        unsaved = await client.stored(unsaved=True)
        again = await every(client, rows(2), directory=tmp_path)

    assert isinstance(first.error, DownloadError)
    assert 1 == len(second.paths)
    assert [first.job] == unsaved
    assert 2 == sum(len(outcome.paths) for outcome in again)
    assert 2 == emulator.billed_total


@in_virtual_time
@pytest.mark.untraced
@pytest.mark.parametrize("endpoint", ["submit", "status", "result"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault.error(402), InsufficientBalanceError),
        (Fault.error(401), AuthenticationError),
    ],
)
async def test_what_no_request_can_survive_ends_the_batch(
    emulator: Emulator, endpoint: Any, fault: Fault, error: type[Exception]
) -> None:
    store = MemoryLedger()
    emulator.script(*[JobScript(run_seconds=10 * n) for n in range(1, 31)])

    async with in_process(emulator, ledger=store) as client:
        outcomes = client.generate_many(rows(30), max_jobs=5)
        first = await anext(outcomes)
        emulator.fault(endpoint, fault, times=None)
        with pytest.raises(error):
            async for _ in outcomes:
                pass
        submitted = len(emulator.jobs)
        await asyncio.sleep(1000)
        stopped = submitted == len(emulator.jobs)
        emulator.clear_faults()
        rest = await every(client, rows(30))

    assert first.result is not None
    assert stopped
    assert [None] * 30 == [outcome.error for outcome in rest]
    assert (30, 30) == (len(emulator.jobs), emulator.billed_total)


@in_virtual_time
@pytest.mark.parametrize("retry_after", [None, "30"])
async def test_429_slows_the_submits_down_and_drops_no_request(
    emulator: Emulator, retry_after: Any
) -> None:
    refused = Fault.error(429, retry_after=retry_after)
    emulator.fault("submit", refused, times=40)

    async with in_process(emulator, retry=RetryPolicy(attempts=1)) as client:
        outcomes = await every(client, rows(20, keyed=False), max_jobs=10)

    submits = [request for request in emulator.requests if request.method == "POST"]
    assert [None] * 20 == [outcome.error for outcome in outcomes]
    assert 20 == len(emulator.jobs)
    assert 60 == len(submits)


@in_virtual_time
async def test_gateways_429_is_sent_again_only_with_a_key(emulator: Emulator) -> None:
    """Without the documented body it does not prove that no job was created."""
    emulator.fault("submit", Fault.html(429), times=2)
    requests = [VideoRequest("a"), VideoRequest("b", key="b")]

    async with in_process(emulator) as client:
        first, second = await every(client, requests, max_jobs=1)

    assert isinstance(first.error, SubmitUncertainError)
    assert second.result is not None


@in_virtual_time
async def test_leaving_loses_nothing(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.hang(5), times=None)

    async with in_process(emulator) as client:
        outcomes = client.generate_many(rows(9), max_jobs=9)
        task = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        await outcomes.aclose()
        await asyncio.sleep(20)
        pending = await client.pending()
        emulator.clear_faults()
        rest = await every(client, rows(9))

    assert set(emulator.jobs) == {job.request_id for job in pending}
    assert [None] * 9 == [outcome.error for outcome in rest]
    assert (9, 9) == (len(emulator.jobs), emulator.billed_total)


@in_virtual_time
async def test_error_of_the_iterable_comes_after_the_outcomes(emulator: Emulator) -> None:
    def broken() -> Iterator[str]:
        yield "a"
        yield "b"
        raise OSError("the file is gone")

    async with in_process(emulator) as client:
        outcomes = client.generate_many(broken())
        seen = [(await anext(outcomes)).result for _ in range(2)]
        with pytest.raises(OSError, match="the file is gone"):
            await anext(outcomes)

    assert 2 == len(seen)
    assert None not in seen


@in_virtual_time
async def test_item_of_another_kind_ends_the_batch(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="prompts or VideoRequest, got 5"):
            await every(client, iter(["a", 5, "b"]))

    assert 1 == len(emulator.jobs)


@in_virtual_time
@pytest.mark.parametrize(
    ("requests", "options", "message"),
    [
        ("a reef", {}, "requests must be an iterable"),
        (5, {}, "requests must be an iterable"),
        ([], {"max_jobs": 0}, "max_jobs must be an integer from 1"),
        ([], {"max_jobs": 1.5}, "max_jobs must be an integer from 1"),
        ([], {"timeout": -1}, "timeout must be"),
        ([], {"model": "../x"}, "model must be"),
    ],
)
async def test_unusable_argument_is_refused_at_once(
    emulator: Emulator, requests: Any, options: Any, message: str
) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match=message):
            client.generate_many(requests, **options)


@in_virtual_time
async def test_request_names_its_model_and_parameters(emulator: Emulator) -> None:
    wishes = VideoParameters(resolution="1080p")
    requests = [VideoRequest("a", "veo-3-fast", wishes), VideoRequest("b"), "c"]

    async with in_process(emulator) as client:
        outcomes = await every(client, requests, model="veo-3.1", max_jobs=1)

    models = [outcome.job.model for outcome in outcomes if outcome.job]
    assert ["veo-3-fast", "veo-3.1", "veo-3.1"] == models
    assert {"resolution": "1080p"} == dict(emulator.jobs[id_of(outcomes[0])].parameters)


@in_virtual_time
async def test_closing_the_client_ends_the_iterator(emulator: Emulator) -> None:
    emulator.script(JobScript(run_seconds=5000))

    async with in_process(emulator) as client:
        outcomes = client.generate_many(itertools.repeat("a reef"), max_jobs=2)
        waiting = asyncio.ensure_future(anext(outcomes))
        late = client.generate_many(["a"])
        await asyncio.sleep(0.01)
    ended = await asyncio.gather(waiting, anext(late), return_exceptions=True)

    assert [ClientStateError, ClientStateError] == [type(end) for end in ended]


@in_virtual_time
async def test_program_that_cancels_all_tasks_ends_the_iterator(emulator: Emulator) -> None:
    emulator.script(JobScript(run_seconds=5000))

    async with in_process(emulator) as client:
        outcomes = client.generate_many(["a reef"])
        waiting = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(5)
        for task in client._engine.tasks.others():
            task.cancel()
        [ended] = await asyncio.gather(waiting, return_exceptions=True)

    assert isinstance(ended, ClientStateError)


@in_virtual_time
async def test_empty_batch_ends_at_once(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        assert [] == await every(client, [])


async def test_two_processes_share_one_batch(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "runs.db"

    async def one() -> list[Succeeded | Failed]:
        async with on_socket(url, ledger=SQLiteLedger(ledger)) as client:
            return await every(client, rows(20), directory=tmp_path / "out")

    both = await asyncio.gather(one(), one())

    assert [None] * 40 == [outcome.error for outcomes in both for outcome in outcomes]
    assert (20, 20) == (len(emulator.jobs), emulator.billed_total)
    assert 20 == len(list((tmp_path / "out").iterdir()))


@in_virtual_time
async def test_videos_are_named_by_the_key_or_by_a_template(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with in_process(emulator) as client:
        [first] = await every(client, [VideoRequest("a", key="Row 17")], directory=tmp_path)
        assert first.result is not None
        again = await client.download(first.result, tmp_path)
        [second] = await every(
            client, [VideoRequest("a", key="row-18")], directory=tmp_path, name="{key}-{index}"
        )
        with pytest.raises(ValueError, match="name must"):
            client.generate_many([], name="{index}")

    assert first.paths[0].name.startswith("Row_17-")
    assert [*first.paths] == again
    assert "row-18-0.mp4" == second.paths[0].name


@in_virtual_time
@pytest.mark.parametrize("bound", [{"max_body_bytes": 1}, {"max_entries": 8}])
async def test_outcome_that_was_not_taken_is_not_dropped_by_a_full_ledger(
    emulator: Emulator, bound: dict[str, int]
) -> None:
    async with in_process(emulator, ledger=MemoryLedger(**bound)) as client:
        outcomes = client.generate_many(rows(8), max_jobs=8)
        first = await anext(outcomes)
        await asyncio.sleep(100)
        await outcomes.aclose()
        stored = await client.stored()
        paid = {id_of(first)} | {job.request_id for job in stored}

    assert {request_id for request_id, count in emulator.billed.items() if count} == paid


@in_virtual_time
async def test_nothing_is_submitted_after_the_iterator_was_left(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.error(429, retry_after="30"), times=None)

    async with in_process(emulator) as client:
        outcomes = client.generate_many(rows(9), max_jobs=9)
        waiting = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(10)
        waiting.cancel()
        await asyncio.wait([waiting])
        await outcomes.aclose()
        emulator.clear_faults()
        await asyncio.sleep(500)
        left = len(emulator.jobs)
        start = asyncio.get_running_loop().time()
        await client.submit("row 0", key="row-0")
        took = asyncio.get_running_loop().time() - start

    assert 0 == left
    assert took < 1  # its key was free again


@in_virtual_time
async def test_gateways_429_does_not_burn_the_rows(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.html(429), times=None)

    async with in_process(emulator) as client:
        start = asyncio.get_running_loop().time()
        outcomes = await every(client, rows(12, keyed=False), max_jobs=3)
        took = asyncio.get_running_loop().time() - start

    assert {SubmitUncertainError} == {type(outcome.error) for outcome in outcomes}
    assert took > 10


@in_virtual_time
@pytest.mark.parametrize("answer", [None, Fault.error(400)], ids=["accepted", "refused"])
async def test_submits_are_fast_again_once_the_server_has_recovered(
    emulator: Emulator, answer: Fault | None
) -> None:
    emulator.fault("submit", Fault.error(429, retry_after="5"), times=2)
    if answer is not None:
        emulator.fault("submit", answer, times=None)
    else:
        emulator.fault("submit", Fault.hang(2), times=None)

    async with in_process(emulator) as client:
        start = asyncio.get_running_loop().time()
        outcomes = client.generate_many(rows(40), max_jobs=40, timeout=1)
        ends = [outcome async for outcome in outcomes]
        took = asyncio.get_running_loop().time() - start

    assert 40 == len(ends)
    assert 4.9 < took < 30


@in_virtual_time
async def test_error_of_an_outcome_holds_no_request(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.drop_after())

    async with in_process(emulator) as client:
        [outcome] = await every(client, ["x" * 1000])

    assert isinstance(outcome.error, SubmitUncertainError)
    assert outcome.error.__cause__ is not None
    assert outcome.error.__cause__.__traceback__ is None
