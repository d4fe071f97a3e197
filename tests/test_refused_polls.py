"""A wait that times out says what is known of the job, with the last error as its cause."""

from __future__ import annotations

import pickle

import httpx
import pytest
from support import STEADY, in_process, in_virtual_time

from modelmax_async import (
    AsyncQueueClient,
    GatherError,
    JobTimeoutError,
    RateLimitError,
    ServerError,
    Status,
    StatusReport,
    TransportError,
)
from modelmax_async.emulator import Emulator, Fault, JobScript

pytestmark = [pytest.mark.anyio, in_virtual_time]
AGAIN = "Wait for the same job again"


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


async def _timed_out(client: AsyncQueueClient, request_id: str) -> JobTimeoutError:
    with pytest.raises(JobTimeoutError) as caught:
        await client.wait_for(request_id, timeout=20)
    return caught.value


async def test_wait_whose_every_poll_is_refused_says_so(emulator: Emulator) -> None:
    async with in_process(emulator, http_client=httpx.MockTransport(refuse)) as client:
        error = await _timed_out(client, "reef")

    assert str(error).startswith(
        "job reef (veo-3): no result within 20 seconds: its status is not known, because every "
        "status call failed ("
    )
    assert str(error).endswith(
        "calls). The last error: the request to 127.0.0.1 for job reef was not sent, and no "
        f"complete response was received: ConnectError: connection refused. {AGAIN}"
    )
    assert "on the server" not in str(error)
    assert isinstance(error.__cause__, TransportError)
    assert error.__cause__.__traceback__ is None
    assert error.last_status is None
    assert error == pickle.loads(pickle.dumps(error))


async def test_polls_that_fail_after_a_status_was_known_are_told(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=60))

    def begin_to_fail(_: StatusReport) -> None:
        emulator.fault("status", Fault.error(502), times=None)

    async with in_process(emulator, poll=STEADY) as client:
        with pytest.raises(JobTimeoutError) as caught:
            await client.wait_for(request_id, timeout=20, on_status=begin_to_fail)
    error = caught.value

    assert (
        "its last known status is IN_PROGRESS, but the status calls since have failed ("
        in str(error)
    )
    assert "the emulator was told to fail. Retry after a moment. Wait for the" in str(error)
    assert "still running" not in str(error)
    assert isinstance(error.__cause__, ServerError)
    assert Status.IN_PROGRESS == error.last_status


async def test_one_failed_poll_is_one_call(emulator: Emulator) -> None:
    emulator.fault("status", Fault.error(429, retry_after="60"))

    async with in_process(emulator) as client:
        error = await _timed_out(client, emulator.add_job())

    assert "every status call failed (1 call). The last error: HTTP 429" in str(error)
    assert isinstance(error.__cause__, RateLimitError)


async def test_fetch_that_is_refused_at_no_charge_is_told(emulator: Emulator) -> None:
    emulator.fault("result", Fault.error(502), times=99)

    async with in_process(emulator) as client:
        error = await _timed_out(client, emulator.add_job())

    assert "it is COMPLETED, but the attempts to fetch its result failed at no charge (" in str(
        error
    )
    assert isinstance(error.__cause__, ServerError)
    assert Status.COMPLETED == error.last_status
    assert 0 == emulator.billed_total


async def test_polls_that_succeed_again_are_no_failure(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=60))
    emulator.fault("status", Fault.error(502), times=2)

    async with in_process(emulator) as client:
        error = await _timed_out(client, request_id)

    assert str(error).endswith(
        "no result within 20 seconds: its last known status is IN_PROGRESS, and it is still "
        f"running on the server. {AGAIN}"
    )
    assert error.__cause__ is None


async def test_fetch_in_progress_at_the_deadline_is_told(emulator: Emulator) -> None:
    emulator.fault("result", Fault.hang(25))

    async with in_process(emulator) as client:
        error = await _timed_out(client, emulator.add_job())

    assert "it is COMPLETED, and its result is stored as soon as it is fetched" in str(error)
    assert error.__cause__ is None


async def test_poll_without_an_answer_claims_nothing(emulator: Emulator) -> None:
    emulator.fault("status", Fault.hang(1000))

    async with in_process(emulator) as client:
        error = await _timed_out(client, emulator.add_job())

    assert "its status is not known yet, and it may still be running on the server." in str(
        error
    )


async def test_batches_say_so_too(emulator: Emulator) -> None:
    emulator.fault("status", Fault.error(502), times=999)
    ids = [emulator.add_job(), emulator.add_job()]

    async with in_process(emulator) as client:
        with pytest.raises(GatherError) as caught:
            await client.gather_results(ids, timeout=20)
        completed = [each.error async for each in client.as_completed(ids, timeout=20)]
        many = client.generate_many(["a reef", "a fox"], timeout=20)
        generated = [each.error async for each in many]

    errors = [*caught.value.exceptions, *completed, *generated]
    assert 6 == len(errors)
    for error in errors:
        assert isinstance(error, JobTimeoutError)
        assert "its status is not known, because every status call failed (" in str(error)
        assert isinstance(error.__cause__, ServerError)
    assert 0 == emulator.billed_total


async def test_the_last_of_several_errors_is_the_cause(emulator: Emulator) -> None:
    emulator.fault("status", Fault.error(502))
    emulator.fault("status", Fault.error(503), times=None)

    async with in_process(emulator) as client:
        error = await _timed_out(client, emulator.add_job())

    assert isinstance(error.__cause__, ServerError)
    assert 503 == error.__cause__.status_code
