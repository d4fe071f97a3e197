"""Bodies of submit, status and error responses are bounded, and read only if not compressed."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import httpx
import pytest
from ledgers import states
from support import in_process, in_virtual_time

from modelmax_async import (
    AuthenticationError,
    InvalidResponseError,
    MemoryLedger,
    ResourceLimits,
    ResultUncertainError,
    SubmitUncertainError,
)
from modelmax_async.emulator import Emulator, Fault

pytestmark = [pytest.mark.anyio, in_virtual_time]
MOST = 65_536
ENVELOPE = {"error": {"message": "no", "type": "bad_gateway"}}
GZIP = {"content-encoding": "gzip"}


def padded(body: dict[str, Any], size: int) -> bytes:
    """Return a body with spaces behind it: what is there of it is valid JSON."""
    return json.dumps(body).encode().ljust(size)


def status_of(request_id: str, size: int = 0) -> bytes:
    return padded({"request_id": request_id, "status": "IN_PROGRESS"}, size)


async def test_largest_status_response_is_read(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.raw(200, status_of(request_id, MOST)))

    async with in_process(emulator) as client:
        report = await client.status(request_id)

    assert "IN_PROGRESS" == report.status


async def test_larger_status_response_is_not_read_to_its_end(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.raw(200, status_of(request_id, MOST + 1)), times=9)

    async with in_process(emulator) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.status(request_id)

    assert (
        f"the response from 127.0.0.1 for job {request_id} is larger than 65536 bytes, the "
        "bound that limits=ResourceLimits(response_bytes=…) sets"
    ) == str(caught.value)
    assert b"" == caught.value.body


async def test_bound_of_responses_can_be_set(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.raw(200, status_of(request_id, 2 * MOST)))

    limits = ResourceLimits(response_bytes=2 * MOST)
    async with in_process(emulator, limits=limits) as client:
        report = await client.status(request_id)

    assert "IN_PROGRESS" == report.status


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP, gzip"])
async def test_compressed_status_response_is_refused_and_asked_for_again(
    emulator: Emulator, encoding: str
) -> None:
    request_id = emulator.add_job()
    packed = gzip.compress(status_of(request_id), mtime=0)
    emulator.fault("status", Fault.raw(200, packed, {"content-encoding": encoding}), times=9)

    async with in_process(emulator) as client:
        with pytest.raises(InvalidResponseError, match="compressed, which was not requested"):
            await client.status(request_id)
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("encoding", ["identity", " Identity", ""])
async def test_identity_is_no_compression(emulator: Emulator, encoding: str) -> None:
    request_id = emulator.add_job()
    headers = {"content-encoding": encoding}
    emulator.fault("status", Fault.raw(200, status_of(request_id), headers))

    async with in_process(emulator) as client:
        report = await client.status(request_id)

    assert "IN_PROGRESS" == report.status


async def test_error_response_that_is_too_large_is_still_that_error(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    large = padded({"error": {"message": "no", "type": "unauthorized"}}, MOST + 1)
    emulator.fault("status", Fault.raw(401, large))

    async with in_process(emulator) as client:
        with pytest.raises(AuthenticationError) as caught:
            await client.wait_for(request_id)

    assert (None, "(no documented error body)") == (
        caught.value.error_type,
        caught.value.message,
    )


@pytest.mark.parametrize(
    "fault",
    [
        Fault.raw(502, padded(ENVELOPE, MOST + 1)),
        Fault.raw(502, gzip.compress(padded(ENVELOPE, 0), mtime=0), GZIP),
        Fault.raw(202, padded({"request_id": "x"}, MOST + 1)),
        Fault.raw(202, gzip.compress(padded({"request_id": "x"}, 0), mtime=0), GZIP),
    ],
    ids=["large error", "compressed error", "large", "compressed"],
)
async def test_submit_whose_response_was_not_read_is_not_sent_again(
    emulator: Emulator, fault: Fault
) -> None:
    emulator.fault("submit", fault)

    async with in_process(emulator) as client:
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef", model="veo-3")

    assert 1 == len(emulator.requests)


@pytest.mark.parametrize("status", [302, 400, 402, 404, 429, 500, 502, 503])
async def test_large_error_of_the_billed_call_is_no_proof_of_no_charge(
    emulator: Emulator, status: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.raw(status, padded(ENVELOPE, MOST + 1), processed=True))
    ledger = MemoryLedger()

    async with in_process(emulator, ledger=ledger) as client:
        for _ in range(2):
            with pytest.raises(ResultUncertainError, match="is larger than 65536 bytes"):
                await client.wait_for(request_id)

    assert ["uncertain"] == states(ledger)
    assert {request_id: 1} == emulator.result_calls


async def test_compressed_error_of_the_billed_call_is_read(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    packed = gzip.compress(padded(ENVELOPE, 0), mtime=0)
    emulator.fault("result", Fault.raw(502, packed, GZIP, processed=False))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


async def test_error_of_the_billed_call_that_unpacks_to_too_much_proves_nothing(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    packed = gzip.compress(padded(ENVELOPE, MOST + 1), mtime=0)
    emulator.fault("result", Fault.raw(502, packed, GZIP, processed=True))

    async with in_process(emulator) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.result_calls


async def test_paid_response_that_unpacks_to_too_much_is_kept_as_it_is(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    body = {"request_id": request_id, "status": "COMPLETED", "data": [{"url": "/v"}]}
    packed = gzip.compress(padded(body, 5000), mtime=0)
    emulator.fault("result", Fault.raw(200, packed, GZIP))

    async with in_process(emulator, limits=ResourceLimits(result_bytes=4999)) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.wait_for(request_id)
        (stored,) = await client.stored()

    assert packed == caught.value.body
    assert request_id == stored.request_id
    assert {request_id: 1} == emulator.billed


async def test_compressed_answer_that_a_job_is_not_ready_is_understood(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    packed = gzip.compress(status_of(request_id), mtime=0)
    emulator.fault("result", Fault.raw(200, packed, GZIP, processed=False))

    async with in_process(emulator) as client:
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


def reading_client(emulator: Emulator) -> httpx.AsyncClient:
    """A client of the caller's that reads, and so decompresses, every response itself."""

    async def read(response: httpx.Response) -> None:
        await response.aread()

    return httpx.AsyncClient(transport=emulator.transport(), event_hooks={"response": [read]})


async def test_response_that_the_callers_client_read_is_bounded_too(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    small, large = status_of(request_id, MOST), status_of(request_id, MOST + 1)
    emulator.fault("status", Fault.raw(200, gzip.compress(small, mtime=0), GZIP))

    async with (
        reading_client(emulator) as http_client,
        in_process(emulator, http_client=http_client) as client,
    ):
        report = await client.status(request_id)
        emulator.fault("status", Fault.raw(200, gzip.compress(large, mtime=0), GZIP), times=9)
        with pytest.raises(InvalidResponseError, match="is larger than 65536 bytes"):
            await client.status(request_id)

    assert "IN_PROGRESS" == report.status


async def test_paid_response_that_the_callers_client_read_is_kept_whatever_its_size(
    emulator: Emulator,
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(5000))

    async with (
        reading_client(emulator) as http_client,
        in_process(
            emulator, http_client=http_client, limits=ResourceLimits(result_bytes=1024)
        ) as client,
    ):
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("name", ["Retry-After", "RETRY-AFTER"])
async def test_headers_that_are_used_are_found_among_any_others(
    emulator: Emulator, name: str
) -> None:
    request_id = emulator.add_job()
    others = [(f"x-{number}", "v") for number in range(2000)]
    emulator.fault("status", Fault.raw(429, b"", [*others, (name, "40"), *others]))

    async with in_process(emulator) as client:
        await client.wait_for(request_id)
        at = asyncio.get_running_loop().time()

    assert at >= 39


async def test_headers_of_one_name_are_joined_and_bounded(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    headers = [("location", "https://elsewhere.example/" + "x" * 500)] * 5
    emulator.fault("status", Fault.raw(302, b"", headers), times=9)

    async with in_process(emulator) as client:
        with pytest.raises(InvalidResponseError, match="a redirect to https://elsewhere"):
            await client.status(request_id)
