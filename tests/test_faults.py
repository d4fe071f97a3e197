"""What each fault of the result endpoint means: uncertain, unbilled or final."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from support import in_process, in_virtual_time, on_socket

from modelmax_async import (
    APIError,
    InconsistentStateError,
    MemoryLedger,
    ResultUncertainError,
    TransportError,
)
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import (
    BilledCallArmed,
    ClaimReleased,
    Event,
    ResultStored,
    ResultUncertain,
)

pytestmark = pytest.mark.anyio

UNCERTAIN: dict[str, tuple[Fault, str]] = {
    "dropped before": (Fault.drop_before(), "sent"),
    "dropped after": (Fault.drop_after(), "sent"),
    "hang": (Fault.hang(5), "sent"),
    "truncated": (Fault.truncate(20), "answered"),
    "500": (Fault.error(500, type="internal_error"), "answered"),
    "504": (Fault.error(504), "answered"),
    "HTML 502": (Fault.html(502), "answered"),
    "HTML 401": (Fault.html(401), "answered"),
    "302": (Fault.redirect("/v1/elsewhere"), "answered"),
    "418": (Fault.error(418), "answered"),
    "empty 204": (Fault.raw(204), "answered"),
}


@pytest.mark.parametrize(("fault", "phase"), UNCERTAIN.values(), ids=UNCERTAIN.keys())
async def test_uncertain_call_is_made_once_and_stays_recorded(
    emulator: Emulator, url: str, fault: Fault, phase: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", fault, request_id=request_id)
    ledger = MemoryLedger()

    async with on_socket(url, ledger=ledger, timeout=0.5) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)
        for ask in (client.wait_for, client.result):
            with pytest.raises(ResultUncertainError):
                await ask(request_id)
        (entry,) = await client.unresolved()
    async with on_socket(url, ledger=ledger) as another:
        with pytest.raises(ResultUncertainError):
            await another.wait_for(request_id)

    assert phase == caught.value.phase == entry.phase
    assert request_id == caught.value.job.request_id == entry.job.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_uncertain_job_stays_uncertain_for_later_waiters(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with on_socket(url) as client:
        ended = await asyncio.gather(
            *(client.wait_for(request_id) for _ in range(10)), return_exceptions=True
        )
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert [ResultUncertainError] * 10 == [type(end) for end in ended]
    assert 10 == len({id(end) for end in ended})
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("status", [429, 502, 503])
async def test_documented_429_502_or_503_releases_the_job_and_is_retried(
    emulator: Emulator, url: str, status: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(status), times=2)
    seen: list[Event] = []

    async with on_socket(url, hooks=[seen.append]) as client:
        result = await client.wait_for(request_id)

    released = [event for event in seen if isinstance(event, ClaimReleased)]

    assert request_id == result.request_id
    assert 2 == len(released)
    assert {request_id: 3} == emulator.result_calls
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
async def test_documented_4xx_is_raised_and_releases_the_job(
    emulator: Emulator, url: str, status: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.error(status))

    async with on_socket(url) as client:
        with pytest.raises(APIError) as caught:
            await client.wait_for(request_id)
        result = await client.wait_for(request_id)

    assert status == caught.value.status_code
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_result_retries_unbilled_calls_and_then_raises(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()

    async with on_socket(url) as client:
        emulator.fault("result", Fault.error(502), times=3)
        result = await client.result(request_id)
        other = emulator.add_job()
        emulator.fault("result", Fault.error(503), times=None, request_id=other)
        with pytest.raises(APIError):
            await client.result(other)

    assert request_id == result.request_id
    assert {request_id: 4, other: 4} == emulator.result_calls


async def test_billed_call_that_was_never_sent_releases_the_job(
    emulator: Emulator,
) -> None:
    """The server is down when the result is asked for first, and up again later."""
    request_id = emulator.add_job()
    seen: list[Event] = []

    async with AsyncExitStack() as server:
        url = await server.enter_async_context(emulator.serve())
        async with on_socket(url, hooks=[seen.append]) as client:
            await client.status(request_id)
            await server.aclose()
            with pytest.raises(TransportError) as caught:
                await client.result(request_id)
            async with emulator.serve(port=int(url.rpartition(":")[2])):
                result = await client.result(request_id)

    outcomes = (BilledCallArmed, ResultStored, ResultUncertain)

    assert not caught.value.maybe_sent
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls
    assert [BilledCallArmed, ResultStored] == [type(e) for e in seen if isinstance(e, outcomes)]


@in_virtual_time
async def test_result_that_lags_behind_status_is_fetched_later(emulator: Emulator) -> None:
    request_id = emulator.add_job(script=JobScript(lag_polls=3))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 4} == emulator.result_calls
    assert {request_id: 1} == emulator.billed


@in_virtual_time
async def test_result_that_never_agrees_with_status_is_inconsistent_after_a_minute(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job(script=JobScript(lag_polls=10_000))

    async with in_process(emulator) as client:
        with pytest.raises(InconsistentStateError, match="nothing was billed"):
            await client.wait_for(request_id)
        at = asyncio.get_running_loop().time()

    assert 60 < at < 80
    assert 0 == emulator.billed_total


@in_virtual_time
async def test_response_with_videos_and_a_stale_status_is_billed_once(
    emulator: Emulator,
) -> None:
    """The videos and the usage show that the response was billed, whatever its status says."""
    request_id = emulator.add_job("reef")
    body = (
        b'{"request_id": "reef", "status": "IN_PROGRESS", '
        b'"data": [{"url": "/v"}], "usage": {"video_seconds": 8}}'
    )
    emulator.fault("result", Fault.raw(200, body))

    async with in_process(emulator) as client:
        await asyncio.gather(client.wait_for(request_id), return_exceptions=True)

    assert {request_id: 1} == emulator.billed
