"""A job that is waited for keeps little of what the server says about it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from support import in_process, in_virtual_time, until

from modelmax_async import AsyncQueueClient, JobTimeoutError, StatusReport
from modelmax_async._polling.job import PolledJob
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]
FAT: dict[str, Any] = {"surprise": [[]] * 2000}


def polled_jobs(client: AsyncQueueClient) -> list[PolledJob]:
    return list(client._engine.poller._jobs.values())


def status(request_id: str, word: str = "IN_PROGRESS", **fields: Any) -> Fault:
    body = {"request_id": request_id, "status": word, **fields}
    return Fault.raw(200, json.dumps(body).encode())


async def test_waiting_job_keeps_the_status_word_alone(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=60))
    emulator.fault("status", status(request_id, **FAT))
    told: list[StatusReport] = []

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(request_id, on_status=told.append))
        await until(lambda: told)
        (polled,) = polled_jobs(client)
        waiting.cancel()

    assert FAT["surprise"] == told[0].raw["surprise"]
    assert StatusReport(request_id, "IN_PROGRESS") == polled.last


async def test_who_joins_a_wait_is_told_the_status_without_its_body(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=60))

    async with in_process(emulator) as client:
        first = client.watch(request_id)
        told = await anext(first)
        second = client.watch(request_id)
        repeated = await anext(second)
        await first.aclose()
        await second.aclose()

    assert request_id == told.raw["request_id"]
    assert ("IN_PROGRESS", {}) == (repeated.status, repeated.raw)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.raw(200, b"x" * 60_000),
        Fault.raw(200, json.dumps({"status": 5, **FAT}).encode()),
        Fault.raw(200, json.dumps({"request_id": "another", "status": "FAILED"}).encode()),
        Fault.raw(502, json.dumps({"error": {"message": "m", "type": "t", **FAT}}).encode()),
        Fault.raw(502, b"x" * 60_000),
        Fault.drop_before(),
    ],
    ids=["no JSON", "no status", "another job", "error", "page", "dropped"],
)
async def test_failed_poll_keeps_little_of_the_response(
    emulator: Emulator, fault: Fault
) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", fault, times=99)

    async with in_process(emulator) as client:
        waiting = asyncio.create_task(client.wait_for(request_id, timeout=30))
        await asyncio.sleep(10)
        (polled,) = polled_jobs(client)
        assert polled.failures is not None
        kept = polled.failures.error
        size = len(repr((kept.args, kept.__dict__)))
        with pytest.raises(JobTimeoutError) as caught:
            await waiting

    assert size < 7000
    assert kept.__traceback__ is None
    assert kept == caught.value.__cause__


async def test_iterator_that_is_not_advanced_keeps_the_latest_changes(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=100))
    for number in range(20):
        emulator.fault("status", status(request_id, f"WORD_{number}"))

    async with in_process(emulator) as client:
        watching = client.watch(request_id)
        words = [(await anext(watching)).status]
        await asyncio.sleep(600)
        words += [report.status async for report in watching]

    assert ("WORD_0", "COMPLETED") == (words[0], words[-1])
    assert 9 == len(words)
