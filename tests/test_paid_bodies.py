"""A paid response body is kept, whatever it is and whatever happens to its connection."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ledgers import states
from raw_server import answer, raw_server
from support import KEY, in_process, in_virtual_time, on_socket, until

from modelmax_async import (
    InvalidResponseError,
    MemoryLedger,
    ResourceLimits,
    ResultUncertainError,
    SQLiteLedger,
)
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.events import Event, ResultUncertain

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


async def test_unreadable_paid_response_is_kept_and_fetched_again_only_with_consent(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.garble(b"\x80 not json"))

    async with on_socket(url) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.wait_for(request_id)
        with pytest.raises(InvalidResponseError):
            await client.result(request_id)
        result = await client.result(request_id, accept_second_charge=True)

    assert b"\x80 not json" == caught.value.body
    assert request_id == result.request_id
    assert {request_id: 2} == emulator.billed


@in_virtual_time
@pytest.mark.parametrize(
    "body",
    [
        b"<html>debug: Authorization: Bearer sk-emulator</html>",
        b'{"request_id": "sk-emulator", "status": "COMPLETED", "data": []}',
    ],
    ids=["page", "name"],
)
async def test_error_about_a_response_that_quotes_the_key_does_not_show_it(
    emulator: Emulator, body: bytes
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.raw(200, body))

    async with in_process(emulator) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.result(request_id)

    assert KEY not in str(caught.value)
    assert body.replace(KEY.encode(), b"sk-...") == caught.value.body


async def test_result_without_videos_is_stored_and_not_fetched_again(
    emulator: Emulator, url: str, tmp_path: Path
) -> None:
    request_id = emulator.add_job(script=JobScript(data=[]))
    for _ in range(2):
        async with on_socket(url, ledger=SQLiteLedger(tmp_path / "runs.db")) as client:
            with pytest.raises(InvalidResponseError, match="lists no videos") as caught:
                await client.wait_for(request_id)

    assert b'"COMPLETED"' in caught.value.body
    assert {request_id: 1} == emulator.result_calls


async def test_compressed_response_is_stored_decompressed(emulator: Emulator, url: str) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.gzip())

    async with on_socket(url) as client:
        result = await client.wait_for(request_id)
        again = await client.wait_for(request_id)

    assert result == again
    assert {request_id: 1} == emulator.billed


async def test_body_cut_off_without_a_length_is_kept_as_paid() -> None:
    body = b'{"status": "COMPL'

    async with (
        raw_server(answer(body, length=False)) as server,
        on_socket(f"http://127.0.0.1:{server.port}") as client,
    ):
        with pytest.raises(InvalidResponseError) as caught:
            await client.result("x")
        with pytest.raises(InvalidResponseError):
            await client.result("x")

    assert body == caught.value.body


async def test_body_read_by_a_hook_of_the_callers_client_is_not_lost(
    emulator: Emulator, url: str
) -> None:
    async def read(response: httpx.Response) -> None:
        await response.aread()

    request_id = emulator.add_job()
    emulator.fault("result", Fault.gzip())

    async with (
        httpx.AsyncClient(event_hooks={"response": [read]}) as http_client,
        on_socket(url, http_client=http_client) as client,
    ):
        result = await client.wait_for(request_id)

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_response_whose_connection_fails_to_close_is_not_lost() -> None:
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b'{"status": "COMPLETED", "data": [{"url": "/v"}]}'

        async def aclose(self) -> None:
            raise httpx.CloseError("broken")

    async with (
        httpx.MockTransport(lambda _: httpx.Response(200, stream=Stream())) as transport,
        on_socket("http://127.0.0.1", http_client=transport) as client,
    ):
        result = await client.result("x")

    assert "x" == result.request_id


async def test_oversized_paid_response_is_kept_on_disk(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * MIB))

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError) as caught:
            await client.wait_for(request_id)

    (kept,) = tmp_path.iterdir()

    assert str(kept) in str(caught.value)
    assert 9 * MIB == kept.stat().st_size
    assert 0o600 == kept.stat().st_mode & 0o777


async def test_oversized_paid_response_is_kept_on_disk_though_it_was_not_synced(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "not synced")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.fsync", refuse)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * MIB))

    async with on_socket(url) as client:
        with pytest.raises(ResultUncertainError, match="the part received is in"):
            await client.wait_for(request_id)

    (kept,) = tmp_path.iterdir()

    assert 9 * MIB == kept.stat().st_size


async def test_oversized_paid_response_is_read_from_memory_when_the_disk_is_full(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        os.truncate(next(tmp_path.iterdir()), 1000)
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.fsync", full)
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * MIB))

    async with on_socket(url) as client:
        result = await client.wait_for(request_id)

    await until(lambda: not list(tmp_path.iterdir()))

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_oversized_paid_response_is_read_from_memory_when_no_file_can_be_made(
    emulator: Emulator, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(9 * MIB))

    async with on_socket(url) as client:
        result = await client.wait_for(request_id)  # only the padding is cut off

    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


async def test_endless_response_is_kept_up_to_the_bound(
    emulator: Emulator, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    request_id = emulator.add_job()
    emulator.fault("result", Fault.oversize(30 * MIB))

    async with on_socket(url, limits=ResourceLimits(kept_bytes=9 * MIB)) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    (kept,) = tmp_path.iterdir()

    assert 9 * MIB < kept.stat().st_size < 11 * MIB


class SlowToClose(httpx.AsyncBaseTransport):
    """The emulator behind a connection that takes long to close."""

    emits_httpcore_trace_events = True

    def __init__(self, emulator: Emulator, seconds: float) -> None:
        self.inner = emulator.transport()
        self.seconds = seconds
        self.closing = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        if not request.url.path.endswith("/status"):
            response.stream = _Slow(response.stream, self)
        return response


class _Slow(httpx.AsyncByteStream):
    """The body of a result, whose stream takes long to close."""

    def __init__(self, inner: Any, owner: SlowToClose) -> None:
        self.inner = inner
        self.owner = owner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            yield chunk

    async def aclose(self) -> None:
        self.owner.closing.set()
        await asyncio.sleep(self.owner.seconds)
        await self.inner.aclose()


@in_virtual_time
class TestConnectionThatIsSlowToClose:
    @pytest.mark.parametrize("seconds", [4.0, 1000.0])
    async def test_result_does_not_wait_for_it(
        self, emulator: Emulator, seconds: float
    ) -> None:
        transport = SlowToClose(emulator, seconds)
        request_id = emulator.add_job()

        # With this timeout the whole call may take 3 seconds.
        async with in_process(emulator, http_client=transport, timeout=0.2) as client:
            async with asyncio.timeout(10):
                result = await client.wait_for(request_id)

        assert request_id == result.request_id
        assert {request_id: 1} == emulator.billed

    async def test_client_that_closes_meanwhile_stores_the_response(
        self, emulator: Emulator
    ) -> None:
        transport = SlowToClose(emulator, 1000.0)
        request_id = emulator.add_job()
        ledger = MemoryLedger()
        seen: list[Event] = []
        options = {"timeout": 1, "ledger": ledger, "hooks": [seen.append]}

        async with in_process(emulator, http_client=transport, **options) as client:
            waiting = asyncio.create_task(client.wait_for(request_id))
            await transport.closing.wait()
            await client.aclose()
            await asyncio.gather(waiting, return_exceptions=True)

        assert ["stored"] == states(ledger)
        assert [] == [event for event in seen if isinstance(event, ResultUncertain)]
