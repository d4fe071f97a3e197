"""A response counts only for the job and the model that it is about."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from ledgers import states
from support import in_process, in_virtual_time, key_and_job

from modelmax_async import (
    BadRequestError,
    InvalidResponseError,
    Job,
    JobTimeoutError,
    MemoryLedger,
    Result,
)
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.ledger import Remember

pytestmark = [pytest.mark.anyio, in_virtual_time]
OTHERS: dict[str, dict[str, Any]] = {
    "completed": {"status": "COMPLETED", "data": [{"url": "/v1/x"}]},
    "in progress": {"status": "IN_PROGRESS"},
    "failed": {"status": "FAILED", "error": "no"},
}


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS.keys())
async def test_paid_response_about_another_job_is_stored_as_unreadable(
    emulator: Emulator, body: dict[str, Any]
) -> None:
    request_id = emulator.add_job()
    content = json.dumps({"request_id": "another", **body}).encode()
    emulator.fault("result", Fault.raw(200, content))

    async with in_process(emulator) as client:
        for _ in range(2):
            with pytest.raises(InvalidResponseError, match="another job"):
                await client.wait_for(request_id)
        result = await client.result(request_id, accept_second_charge=True)

    assert request_id == result.request_id
    assert {request_id: 2} == emulator.result_calls


@pytest.mark.parametrize("word", [b"IN_PROGRESS", b"FAILED"])
async def test_response_that_names_another_id_proves_nothing(
    emulator: Emulator, word: bytes
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.raw(200, b'{"request_id": 7, "status": "%s"}' % word))
    store = MemoryLedger()

    async with in_process(emulator, ledger=store) as client:
        await asyncio.gather(client.wait_for(request_id), return_exceptions=True)
        (state,) = states(store)

    assert state not in {"known", "failed"}
    assert {request_id: 1} == emulator.billed


async def test_status_about_another_job_is_ignored(emulator: Emulator) -> None:
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


async def test_wrong_model_fails_only_the_caller_that_named_it(emulator: Emulator) -> None:
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


async def test_wrong_model_in_a_batch_fails_that_job_only(emulator: Emulator) -> None:
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


async def test_recorded_wrong_model_is_corrected(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=20))
    store = MemoryLedger()
    key, job = key_and_job(request_id)
    await store.apply(key, Remember(make_job("veo-2", request_id)))

    async with in_process(emulator, ledger=store) as client:
        with pytest.raises(JobTimeoutError):
            await client.wait_for(request_id, timeout=5)
        pending = await client.pending()

    assert [job] == pending


async def test_id_that_the_server_never_acknowledged_is_not_pending(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError):
            await client.wait_for("no-such-job")
        with pytest.raises(BadRequestError):
            await client.result("no-such-job")
        pending = await client.pending()

    assert [] == pending
