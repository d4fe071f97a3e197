"""What each fault of the status endpoint means for the waiters."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest
from support import in_process, in_virtual_time

from modelmax_async import (
    AuthenticationError,
    BadRequestError,
    ModelMaxError,
    NotFoundError,
    RetryPolicy,
    ServerError,
    StatusReport,
)
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]
FAULTS: dict[str, Fault] = {
    "502": Fault.error(502),
    "500": Fault.error(500),
    "429 seconds": Fault.error(429, retry_after="7"),
    "503 date": Fault.error(503, retry_after=formatdate(time.time() + 9, usegmt=True)),
    "408": Fault.error(408),
    "html": Fault.html(502),
    "html 200": Fault.html(200),
    "dropped": Fault.drop_before(),
    "redirect": Fault.redirect("https://elsewhere.example/"),
    "hang": Fault.hang(45),
    "garbled": Fault.garble(),
    "truncated": Fault.truncate(10),
    "oversized": Fault.oversize(9 * 1024 * 1024),
    "bomb": Fault.gzip(n_bytes=9 * 1024 * 1024),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_wait_continues_after_a_failed_poll(emulator: Emulator, fault: Fault) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))
    emulator.fault("status", fault, times=2)

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert 1 == emulator.billed_total


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after_is_a_minimum(emulator: Emulator, form: str) -> None:
    request_id = emulator.add_job()
    date = formatdate(time.time() + 41, usegmt=True)
    fault = Fault.error(429, retry_after="40" if form == "seconds" else date)
    emulator.fault("status", fault)

    async with in_process(emulator) as client:
        await client.wait_for(request_id)
        at = asyncio.get_running_loop().time()

    assert at >= 39


@pytest.mark.parametrize("fault", [Fault.error(401, type="unauthorized"), Fault.error(403)])
async def test_rejected_key_ends_the_wait_at_once(emulator: Emulator, fault: Fault) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", fault)

    async with in_process(emulator) as client:
        with pytest.raises(ModelMaxError) as caught:
            await client.wait_for(request_id)

    assert caught.value.job is not None
    assert request_id == caught.value.job.request_id
    assert {request_id: 1} == emulator.polls


async def test_wrong_key_is_an_authentication_error(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator, api_key="sk-wrong") as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.wait_for(request_id)

    assert 401 == caught.value.status_code
    assert "sk-wrong" not in str(caught.value)


async def test_unknown_id_ends_the_wait_at_once(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(BadRequestError, match="no-such-job"):
            await client.wait_for("no-such-job")


async def test_passing_404_is_retried_and_a_lasting_one_is_raised(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.error(404), times=3)

    async with in_process(emulator) as client:
        await client.wait_for(request_id)
        emulator.fault("status", Fault.error(404), times=None)
        with pytest.raises(NotFoundError):
            await client.wait_for(emulator.add_job())


async def test_uninterrupted_failure_ends_after_give_up_after(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.error(502), times=None)

    async with in_process(emulator, retry=RetryPolicy(give_up_after=100)) as client:
        with pytest.raises(ServerError) as caught:
            await client.wait_for(request_id, timeout=None)
        at = asyncio.get_running_loop().time()

    assert 502 == caught.value.status_code
    assert 100 <= at <= 131


async def test_good_status_resets_give_up_after(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=250))
    for _ in range(12):
        emulator.fault("status", Fault.error(502), times=3)
        emulator.fault("status", Fault.raw(200, b'{"status": "IN_PROGRESS"}'))

    async with in_process(emulator, retry=RetryPolicy(give_up_after=60)) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_retry_after_beyond_give_up_after_is_waited_out(
    emulator: Emulator, status: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.error(status, retry_after="600"))
    emulator.fault("status", Fault.error(502))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id


async def test_pause_caused_by_another_job_does_not_count_as_failure(
    emulator: Emulator,
) -> None:
    failing, pausing = emulator.add_job(), emulator.add_job()
    emulator.fault("status", Fault.error(502), times=3, request_id=failing)
    emulator.fault("status", Fault.error(503, retry_after="600"), request_id=pausing)

    async with in_process(emulator) as client:
        results = await client.gather_results([failing, pausing])

    assert [failing, pausing] == [result.request_id for result in results]


async def test_unknown_statuses_and_fields_are_passed_through(emulator: Emulator) -> None:
    script = JobScript(statuses=("WARMING_UP", "IN_QUEUE", "COMPLETED"), extra={"new": [1]})
    request_id = emulator.add_job(script=script)
    seen: list[StatusReport] = []

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id, on_status=seen.append)

    assert ["WARMING_UP", "IN_QUEUE", "COMPLETED"] == [report.status for report in seen]
    assert [1] == result.raw["new"]
    assert [1] == seen[0].raw["new"]
