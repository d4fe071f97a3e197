"""The local ModelMax of a test: its clients, its scripts, and the checks of its bills."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from modelmax_async import (
    AsyncQueueClient,
    AuthenticationError,
    JobFailedError,
    MemoryLedger,
    ResultUncertainError,
)
from modelmax_async.testing import Fault, JobScript, ModelMax

pytestmark = pytest.mark.anyio


async def test_job_is_billed_once(
    modelmax: ModelMax, modelmax_client: AsyncQueueClient
) -> None:
    job = await modelmax_client.submit("a reef")
    result = await modelmax_client.wait_for(job)

    modelmax.assert_billed_once(job)
    modelmax.assert_billed_once(result)
    modelmax.assert_billed_once(job.request_id, result)
    modelmax.assert_billed_once(*modelmax.jobs)


async def test_job_that_fails_is_not_billed(
    modelmax: ModelMax, modelmax_client: AsyncQueueClient
) -> None:
    modelmax.script(JobScript(outcome="FAILED", error="not this reef"))
    with pytest.raises(JobFailedError, match="not this reef") as caught:
        await modelmax_client.generate("a reef")

    modelmax.assert_not_billed(caught.value.job)


async def test_fault_leaves_a_bill_and_no_result(
    modelmax: ModelMax, modelmax_client: AsyncQueueClient
) -> None:
    modelmax.fault("result", Fault.drop_after())
    job = await modelmax_client.submit("a reef")
    with pytest.raises(ResultUncertainError):
        await modelmax_client.wait_for(job)

    modelmax.assert_billed_once(job)


async def test_second_bill_is_reported_with_the_job_and_the_calls(modelmax: ModelMax) -> None:
    request_id = modelmax.add_job("reef")
    for _ in range(2):
        async with modelmax.client(ledger=MemoryLedger()) as client:
            await client.wait_for(request_id)

    with pytest.raises(AssertionError) as caught:
        modelmax.assert_billed_once(request_id)

    assert "job reef must be billed once, but 2 of its 2 result calls were billed" == str(
        caught.value
    )


async def test_missing_bill_is_reported(modelmax: ModelMax) -> None:
    modelmax.add_job("reef")
    with pytest.raises(AssertionError) as caught:
        modelmax.assert_billed_once("reef")

    assert "but 0 of its 0 result calls were billed" in str(caught.value)


async def test_unwanted_bill_is_reported(
    modelmax: ModelMax, modelmax_client: AsyncQueueClient
) -> None:
    await modelmax_client.wait_for(modelmax.add_job("reef"))
    with pytest.raises(AssertionError) as caught:
        modelmax.assert_not_billed("reef")

    assert "job reef must not be billed, but 1 of its 1 result calls were billed" == str(
        caught.value
    )


@pytest.mark.parametrize("check", [ModelMax.assert_billed_once, ModelMax.assert_not_billed])
def test_check_of_nothing_fails(modelmax: ModelMax, check: object) -> None:
    assert callable(check)
    with pytest.raises(
        AssertionError, match="but this ModelMax has no such job; it has 0 jobs"
    ):
        check(modelmax, "reef")
    with pytest.raises(AssertionError, match="no job was given"):
        check(modelmax)


@pytest.mark.virtual_time
async def test_wait_of_ten_minutes_takes_no_time_and_few_polls(
    modelmax: ModelMax, modelmax_client: AsyncQueueClient
) -> None:
    modelmax.script(JobScript(run_seconds=600))
    began = time.monotonic()
    job = await modelmax_client.submit("a reef")
    await modelmax_client.wait_for(job)

    assert 600 <= asyncio.get_running_loop().time() < 620
    assert time.monotonic() - began < 2
    assert modelmax.polls[job.request_id] < 100


async def test_job_that_ends_at_once_is_waited_for_in_real_time_without_delay(
    modelmax_client: AsyncQueueClient,
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await modelmax_client.generate("a reef")

    assert loop.time() - began < 1


async def test_client_has_the_key_and_the_path_of_its_modelmax() -> None:
    modelmax = ModelMax(api_key="sk-reef", base_path="/proxy")
    async with modelmax.client() as client:
        modelmax.assert_billed_once(await client.generate("a reef"))


async def test_client_takes_options() -> None:
    modelmax = ModelMax()
    async with modelmax.client(api_key="sk-other", model="veo-3-fast") as client:
        with pytest.raises(AuthenticationError):
            await client.submit("a reef")

    assert "/v1/queue/veo-3-fast" == modelmax.requests[0].raw_path


@pytest.mark.parametrize(
    ("header", "status"), [("Bearer sk-any", 202), ("Bearer ", 401), ("sk-any", 401)]
)
async def test_any_key_but_none_is_accepted(
    modelmax: ModelMax, header: str, status: int
) -> None:
    async with httpx.AsyncClient(transport=modelmax.transport()) as client:
        response = await client.post(
            "http://x/v1/queue/veo-3", json={"prompt": "a"}, headers={"Authorization": header}
        )

    assert status == response.status_code


def test_repr_tells_jobs_and_bills(modelmax: ModelMax) -> None:
    modelmax.add_job()

    assert "<ModelMax jobs=1 billed=0 in_flight=0>" == repr(modelmax)
