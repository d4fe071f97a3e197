"""`status` and `result` make one call, and repeat it only where nothing is billed."""

from __future__ import annotations

import asyncio

import pytest
from support import in_process, in_virtual_time

from modelmax_async import BadRequestError, InvalidResponseError, NotReadyError, Status
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]


async def test_status_is_one_free_call(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))

    async with in_process(emulator) as client:
        report = await client.status(request_id)

    assert Status.IN_PROGRESS == report.status
    assert {request_id: 1} == emulator.polls


async def test_status_retries_a_failed_call_and_then_raises(emulator: Emulator) -> None:
    request_id = emulator.add_job()

    async with in_process(emulator) as client:
        emulator.fault("status", Fault.error(502), times=3)
        report = await client.status(request_id)
        emulator.fault("status", Fault.html(200), times=4)
        with pytest.raises(InvalidResponseError):
            await client.status(request_id)
        with pytest.raises(BadRequestError):
            await client.status("no-such-job")

    assert Status.COMPLETED == report.status
    assert {request_id: 8, "no-such-job": 1} == emulator.polls


async def test_result_of_a_running_job_is_not_ready_and_not_billed(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=5))

    async with in_process(emulator) as client:
        with pytest.raises(NotReadyError, match="nothing was billed") as caught:
            await client.result(request_id)
        await asyncio.sleep(5)
        result = await client.result(request_id)

    assert "IN_PROGRESS" == caught.value.last_status
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed
