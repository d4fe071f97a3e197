"""`submit` and `generate`: sent again only where no job can have been created."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from pathlib import Path

import pytest
from support import in_process, in_virtual_time, on_socket

from modelmax_async import (
    APIError,
    AuthenticationError,
    InsufficientBalanceError,
    Result,
    RetryPolicy,
    SQLiteLedger,
    SubmitUncertainError,
    TransportError,
    VideoParameters,
)
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = pytest.mark.anyio


async def test_submit_is_recorded_right_after_the_response(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        job = await client.submit("a reef")

    async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
        pending = await client.pending()
        results = await client.gather_results(pending)
        left = await client.pending()

    assert [job] == pending
    assert [job.request_id] == [result.request_id for result in results]
    assert [] == left


@pytest.mark.parametrize("fault", [Fault.error(429), Fault.error(502), Fault.error(503)])
async def test_submit_that_created_no_job_is_sent_again(
    emulator: Emulator, url: str, fault: Fault
) -> None:
    emulator.fault("submit", fault, times=2)

    async with on_socket(url) as client:
        job = await client.submit("a reef")

    assert [job.request_id] == list(emulator.jobs)
    assert 3 == emulator.submits


async def test_submit_gives_up_with_the_servers_error(emulator: Emulator, url: str) -> None:
    emulator.fault("submit", Fault.error(502, message="no provider"), times=None)

    async with on_socket(url, retry=RetryPolicy(initial=0.01, attempts=3)) as client:
        with pytest.raises(APIError, match="no provider"):
            await client.submit("a reef")

    assert 3 == emulator.submits


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
@pytest.mark.parametrize("envelope", [True, False])
async def test_refused_submit_raises_its_own_error_at_once(
    emulator: Emulator, url: str, status: int, envelope: bool
) -> None:
    emulator.fault("submit", Fault.error(status, envelope=envelope))

    async with on_socket(url) as client:
        with pytest.raises(APIError) as caught:
            await client.submit("a reef")

    assert status == caught.value.status_code
    assert 1 == emulator.submits


@in_virtual_time
async def test_submit_without_balance_charges_nothing(emulator: Emulator) -> None:
    emulator.balance = 0.0

    async with in_process(emulator) as client:
        with pytest.raises(InsufficientBalanceError, match="Nothing was charged"):
            await client.submit("a reef")

    assert 1 == emulator.submits


UNCERTAIN = [
    Fault.drop_before(),
    Fault.drop_after(),
    Fault.hang(5),
    Fault.truncate(10),
    Fault.garble(),
    Fault.raw(202, b'{"status": "IN_QUEUE"}'),
    Fault.raw(202, b'{"request_id": ".."}'),
    Fault.error(500),
    Fault.error(504),
    Fault.html(502),
    Fault.html(429),
    Fault.redirect("/elsewhere"),
]


@pytest.mark.parametrize("fault", UNCERTAIN, ids=lambda fault: fault.name)
async def test_uncertain_submit_is_not_sent_again(
    emulator: Emulator, url: str, fault: Fault
) -> None:
    emulator.fault("submit", fault)

    async with on_socket(url, timeout=0.5) as client:
        with pytest.raises(SubmitUncertainError, match="never billed") as caught:
            await client.submit("a reef")

    assert caught.value.__cause__ is not None
    assert 1 == emulator.submits


async def test_submit_retries_a_connection_that_was_refused() -> None:
    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(TransportError) as caught:
            await client.submit("a reef")

    assert not caught.value.maybe_sent


async def test_submit_to_an_absent_server_says_that_nothing_was_sent() -> None:
    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(TransportError, match="was not sent") as caught:
            await client.submit("a reef")

    assert not caught.value.maybe_sent
    assert caught.value == pickle.loads(pickle.dumps(caught.value))


@in_virtual_time
async def test_closing_in_the_middle_of_a_submit_says_that_a_job_may_exist(
    emulator: Emulator,
) -> None:
    emulator.fault("submit", Fault.hang(15))

    async with in_process(emulator) as client:
        submitting = asyncio.create_task(client.submit("a reef"))
        await asyncio.sleep(1)
        await client.aclose()
        with pytest.raises(SubmitUncertainError, match="closed"):
            await submitting


@in_virtual_time
async def test_cancelled_submit_is_still_recorded(emulator: Emulator) -> None:
    emulator.fault("submit", Fault.hang(10))

    async with in_process(emulator) as client:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(client.submit("a reef"), 3)
        await asyncio.sleep(20)
        pending = await client.pending()

    assert [*emulator.jobs] == [job.request_id for job in pending]


@in_virtual_time
async def test_generate_submits_and_waits(emulator: Emulator) -> None:
    emulator.script(JobScript(run_seconds=30))

    async with in_process(emulator) as client:
        result = await client.generate("a reef", parameters=VideoParameters(sample_count=2))

    assert [0, 1] == [video.index for video in result.videos]
    assert 1 == emulator.billed_total


@in_virtual_time
async def test_every_error_after_the_submit_carries_the_job(emulator: Emulator) -> None:
    async with in_process(emulator) as client:
        emulator.fault("status", Fault.error(401), times=None)
        with pytest.raises(AuthenticationError) as caught:
            await client.generate("a reef")

        emulator.clear_faults()
        assert caught.value.job is not None
        result = await client.wait_for(caught.value.job)

    assert isinstance(result, Result)
