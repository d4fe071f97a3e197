"""What is no job, and an ``await`` that was forgotten, are named before any request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from ledgers import Seen
from support import in_process, in_virtual_time, result_of

from modelmax_async import (
    AsyncQueueClient,
    Failed,
    Job,
    JobTimeoutError,
    LedgerEntry,
    StatusReport,
    Succeeded,
    VideoRequest,
)
from modelmax_async.emulator import Emulator

pytestmark = [pytest.mark.anyio, in_virtual_time]
JOB = Job("veo-3", "reef")
RESULT = result_of("/v")
JOB_OR_ID = "job must be a Job or a request id (str), got "
JOBS = "jobs must be an iterable of Jobs or request ids, got "
Call = Callable[[AsyncQueueClient, Any], Any]


async def _jobs() -> AsyncIterator[Job]:
    yield JOB


async def _ended(made: Any) -> Any:
    """Await what a method returned, whatever kind it is of."""
    if hasattr(made, "__anext__"):
        return [each async for each in made]
    return await made


ONE: dict[str, Call] = {
    "status": lambda client, job: client.status(job),
    "result": lambda client, job: client.result(job),
    "wait_for": lambda client, job: client.wait_for(job),
    "gather_results": lambda client, job: client.gather_results([JOB, job]),
    "as_completed": lambda client, job: client.as_completed([job]),
    "watch": lambda client, job: client.watch(job),
    "notify": lambda client, job: client.notify(job),
    "expected": lambda client, job: client.expected(job),
    "mark_saved": lambda client, job: client.mark_saved(job),
    "forget": lambda client, job: client.forget(job),
}
NO_JOB: list[tuple[Any, str]] = [
    (None, f"{JOB_OR_ID}None"),
    (5, f"{JOB_OR_ID}5"),
    (b"reef", f"{JOB_OR_ID}bytes"),
    (Job, f"{JOB_OR_ID}the class Job"),
    ([JOB], f"{JOB_OR_ID}list: pass each job by itself"),
    (JOB.to_dict(), f"{JOB_OR_ID}dict: pass Job.from_dict(…) of it"),
    (RESULT, f"{JOB_OR_ID}Result: pass its .request_id"),
    (StatusReport("reef", "IN_QUEUE"), f"{JOB_OR_ID}StatusReport: pass its .request_id"),
    (JobTimeoutError("late", job=JOB), f"{JOB_OR_ID}JobTimeoutError: pass its .job"),
    (Succeeded(JOB, RESULT), f"{JOB_OR_ID}Succeeded: pass its .job"),
    (Failed(JOB, ValueError()), f"{JOB_OR_ID}Failed: pass its .job"),
    (LedgerEntry(job=JOB, state="known", since=1.0), f"{JOB_OR_ID}LedgerEntry: pass its .job"),
    (VideoRequest("a reef"), f"{JOB_OR_ID}VideoRequest: pass the Job that submit() returned"),
]


@pytest.mark.parametrize("call", ONE.values(), ids=ONE.keys())
@pytest.mark.parametrize(("given", "message"), NO_JOB)
async def test_what_is_no_job_is_named(
    emulator: Emulator, call: Call, given: Any, message: str
) -> None:
    ledger = Seen()
    async with in_process(emulator, ledger=ledger) as client:
        with pytest.raises(ValueError, match="job must be a Job") as caught:
            await _ended(call(client, given))

    assert str(caught.value).endswith(message) or str(caught.value).startswith(message)
    assert [] == emulator.requests
    assert [] == ledger.applied


MANY: dict[str, Call] = {
    "gather_results": lambda client, jobs: client.gather_results(jobs),
    "as_completed": lambda client, jobs: client.as_completed(jobs),
}
NO_JOBS: list[tuple[Any, str]] = [
    ("abc", f"{JOBS}one string: pass [request_id]"),
    (b"abc", f"{JOBS}bytes"),
    (JOB, f"{JOBS}one Job: pass [job], or use wait_for(job)"),
    (None, f"{JOBS}None"),
    ({"row-1": JOB}, f"{JOBS}dict of Jobs: pass its .values()"),
    (_jobs(), f"{JOBS}async_generator: pass [job async for job in …]"),
    ([[JOB]], f"{JOB_OR_ID}list: pass each job by itself"),
]


@pytest.mark.parametrize("call", MANY.values(), ids=MANY.keys())
@pytest.mark.parametrize(("given", "message"), NO_JOBS)
async def test_what_is_no_list_of_jobs_is_named(
    emulator: Emulator, call: Call, given: Any, message: str
) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="must be") as caught:
            await _ended(call(client, given))

    assert message == str(caught.value)
    assert [] == emulator.requests


@pytest.mark.parametrize("many", [list, set, tuple, iter, dict.fromkeys])
async def test_any_iterable_of_ids_is_taken(
    emulator: Emulator, many: Callable[[list[str]], Any]
) -> None:
    ids = [emulator.add_job(), emulator.add_job()]

    async with in_process(emulator) as client:
        results = await client.gather_results(many(ids))

    assert set(ids) == {result.request_id for result in results}


FORGOTTEN: dict[str, Call] = {
    **ONE,
    **MANY,
    "submit": lambda client, given: client.submit(given),
    "download": lambda client, given: client.download(given, "unused"),
    "directory": lambda client, given: client.download(RESULT, given),
    "stream": lambda client, given: client.stream(given),
    "generate_many": lambda client, given: client.generate_many(given),
    "one of generate_many": lambda client, given: client.generate_many([given]),
}


@pytest.mark.parametrize("call", FORGOTTEN.values(), ids=FORGOTTEN.keys())
async def test_forgotten_await_is_named_and_leaves_no_warning(
    emulator: Emulator, call: Call
) -> None:
    async with in_process(emulator) as client:
        forgotten = client.submit("a reef")
        with pytest.raises(ValueError, match="must be") as caught:
            await _ended(call(client, forgotten))

    problem = "got the coroutine of AsyncQueueClient.submit(): await it first"
    assert str(caught.value).endswith(problem)
    assert forgotten.cr_frame is None, "or a warning that it was never awaited would follow"  # type: ignore[attr-defined]  # it is a coroutine
    assert [] == emulator.requests


async def test_every_forgotten_await_of_a_batch_is_closed(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        forgotten: list[Any] = [client.submit("a reef"), client.submit("a wreck")]
        with pytest.raises(ValueError, match="await it first"):
            await client.gather_results(forgotten)

    assert [None, None] == [each.cr_frame for each in forgotten]
    assert [] == emulator.requests


async def test_task_in_place_of_a_job_is_named_and_goes_on(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        task: Any = asyncio.create_task(client.submit("a reef"))
        with pytest.raises(ValueError, match=r"got Task: await it first"):
            await client.wait_for(task)
        job = await task

    assert emulator.requests[0].endpoint == "submit"
    assert "veo-3" == job.model
