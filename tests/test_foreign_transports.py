"""A transport or HTTP client of the caller sends the billed call at most once."""

from __future__ import annotations

import contextlib

import httpx
import pytest
from ledgers import states
from support import IMPATIENT, KEY, on_socket

from modelmax_async import MemoryLedger, NotReadyError, ResultUncertainError, TransportError
from modelmax_async.emulator import Emulator, Fault

pytestmark = pytest.mark.anyio


async def test_injected_http_client_is_used_and_never_closed(
    emulator: Emulator, url: str
) -> None:
    http_client = httpx.AsyncClient(headers={"x-team": "reef"}, auth=("user", "password"))

    async with on_socket(url, http_client=http_client) as client:
        await client.wait_for(emulator.add_job())

    closed = http_client.is_closed
    await http_client.aclose()
    seen = emulator.requests[-1].headers

    assert not closed
    assert "reef" == seen["x-team"]
    assert f"Bearer {KEY}" == seen["authorization"]


async def test_closed_http_client_is_reported_before_the_call_is_armed(
    emulator: Emulator,
) -> None:
    http_client = httpx.AsyncClient(transport=emulator.transport())
    await http_client.aclose()

    async with on_socket("http://127.0.0.1", http_client=http_client) as client:
        with pytest.raises(TransportError, match="is closed") as caught:
            await client.result("x")

    assert not caught.value.maybe_sent


class _Retrying(httpx.AsyncBaseTransport):
    """A transport that repeats a GET, as retry libraries do."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            with contextlib.suppress(httpx.TransportError):
                return await self.inner.handle_async_request(request)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_retrying_transport_of_the_caller_cannot_bill_twice(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=None)

    async with (
        httpx.AsyncClient(transport=_Retrying()) as http_client,
        on_socket(url, http_client=http_client, retry=IMPATIENT) as client,
    ):
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout("slow"), False),
        (httpx.PoolTimeout("full"), False),
        (httpx.ReadError("broken"), True),
        (httpx.ReadTimeout("slow"), True),
        (httpx.WriteError("broken"), True),
        (httpx.RemoteProtocolError("odd"), True),
        (RuntimeError("a transport's own"), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_foreign_transport_without_events_counts_as_sent_but_for_connect_errors(
    error: Exception, sent: bool
) -> None:
    async def fail(_: httpx.Request) -> httpx.Response:
        raise error

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(fail)) as http_client,
        on_socket("http://127.0.0.1", http_client=http_client) as client,
    ):
        with pytest.raises(ResultUncertainError if sent else TransportError):
            await client.result("x")
        unresolved = await client.unresolved()

    assert (["uncertain"] if sent else []) == [entry.state for entry in unresolved]


async def test_foreign_transport_without_events_is_armed_before_it_is_called() -> None:
    ledger = MemoryLedger()
    seen: list[str] = []

    async def respond(_: httpx.Request) -> httpx.Response:
        seen.extend(states(ledger))
        return httpx.Response(200, json={"status": "IN_PROGRESS"})

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(respond)) as http_client,
        on_socket("http://127.0.0.1", http_client=http_client, ledger=ledger) as client,
    ):
        with pytest.raises(NotReadyError):
            await client.result("x")

    assert ["armed"] == seen


async def test_untraced_second_attempt_is_not_taken_for_the_first(
    emulator: Emulator, url: str
) -> None:
    """The transport tries two servers; only the first attempt, which is refused, is traced."""

    class Failover(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            there = httpx.Request("GET", "http://127.0.0.1:9", extensions=request.extensions)
            with contextlib.suppress(httpx.ConnectError):
                await super().handle_async_request(there)
            plain = httpx.Request("GET", request.url, headers=request.headers)
            return await super().handle_async_request(plain)

    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after())

    async with Failover() as transport, on_socket(url, http_client=transport) as client:
        with pytest.raises(ResultUncertainError):
            await client.result(request_id)

    assert {request_id: 1} == emulator.billed


class _Odd(httpx.RequestError):
    """An error of a foreign transport whose `str()` raises."""

    def __init__(self, code: int, *, request: httpx.Request) -> None:
        super().__init__("odd", request=request)
        self.code = code

    def __str__(self) -> str:
        raise ValueError(self.code)


async def test_error_without_a_text_does_not_release_the_job() -> None:
    calls: list[str] = []

    async def fail(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path)
        raise _Odd(5, request=request)

    async with (
        httpx.MockTransport(fail) as transport,
        on_socket("http://127.0.0.1", http_client=transport) as client,
    ):
        for _ in range(2):
            with pytest.raises(ResultUncertainError):
                await client.result("x")

    assert 1 == len(calls)
