"""Money over every kind of transport, on real sockets, counted by the emulator.

Whatever breaks after the request may have left: one request, and an error that says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient
from support import KEY, Moves, on_socket, transport_to

from modelmax_async import ResultUncertainError, SubmitUncertainError, TransportError
from modelmax_async._api.messages import Call
from modelmax_async._http import ClientOrTransport
from modelmax_async._http.own_client import PlainClient
from modelmax_async._http.transports import Carrier, Kind, find_carrier
from modelmax_async.emulator import Emulator, Fault
from modelmax_async.emulator._inprocess import InProcessTransport
from modelmax_async.ledger import Arm

pytestmark = pytest.mark.anyio


class Wrapper(httpx.AsyncBaseTransport):
    """A transport of somebody's own, round one of httpx's."""

    def __init__(self) -> None:
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Lying(Wrapper):
    """Whatever breaks, it says that there was no connection, and it traces nothing."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions.pop("trace", None)
        try:
            return await super().handle_async_request(request)
        except httpx.TransportError as exc:
            raise httpx.ConnectTimeout(str(exc)) from exc


class Resending(Wrapper):
    """Sends again what broke, with the trace events of each try."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(3):
            with contextlib.suppress(httpx.TransportError):
                return await super().handle_async_request(request)
        return await super().handle_async_request(request)


class Subclass(httpx.AsyncHTTPTransport):
    """Not httpx's own any more: it could do anything."""


class Sender(httpx.AsyncClient):
    """A client that sends in a way of its own: what breaks was never sent, it says."""

    async def send(self, *args: Any, **kwargs: Any) -> httpx.Response:
        try:
            return await super().send(*args, **kwargs)
        except httpx.TransportError as exc:
            raise httpx.ConnectError(str(exc)) from exc


TRANSPORTS: dict[str, Callable[[], ClientOrTransport | None]] = {
    "default": lambda: None,
    "transport": httpx.AsyncHTTPTransport,
    "client": httpx.AsyncClient,
    "aiohttp": AiohttpTransport,
    "aiohttp in client": lambda: httpx.AsyncClient(transport=AiohttpTransport()),
    "aiohttp's client": HttpxAiohttpClient,
    "lying": Lying,
    "lying in client": lambda: httpx.AsyncClient(transport=Lying()),
    "lying client": Sender,
    "resending": Resending,
    "resending in client": lambda: httpx.AsyncClient(transport=Resending()),
    "subclass": Subclass,
}
FAULTS = {
    "dropped before": Fault.drop_before(),
    "dropped after": Fault.drop_after(),
    "hangs": Fault.hang(5),
    "truncated": Fault.truncate(20),
}


@pytest.fixture
async def http_client(
    request: pytest.FixtureRequest,
) -> AsyncIterator[ClientOrTransport | None]:
    """What the test names, closed after it."""
    made = TRANSPORTS[request.param]()
    yield made
    if made is not None:
        await made.aclose()


EVERY = pytest.mark.parametrize("http_client", TRANSPORTS, indirect=True)
BREAKS = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
AIOHTTP = pytest.mark.parametrize(
    "http_client", ["aiohttp", "aiohttp in client", "aiohttp's client"], indirect=True
)


@EVERY
@BREAKS
async def test_fetch_that_breaks_is_one_request_of_unknown_outcome(
    emulator: Emulator, url: str, http_client: ClientOrTransport | None, fault: Fault
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", fault, times=None)

    async with on_socket(url, http_client=http_client, timeout=0.3) as client:
        for _ in range(2):
            with pytest.raises(ResultUncertainError):
                await client.wait_for(request_id)

    assert {request_id: 1} == emulator.result_calls


@EVERY
@BREAKS
async def test_submit_that_breaks_is_one_request_of_unknown_outcome(
    emulator: Emulator, url: str, http_client: ClientOrTransport | None, fault: Fault
) -> None:
    first = emulator.add_job()
    emulator.fault("submit", fault, times=None)

    async with on_socket(url, http_client=http_client, timeout=0.3) as client:
        await client.status(first)  # leaves a kept connection, where there are any
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef")

    assert 1 == emulator.submits
    assert len(emulator.jobs) <= 2


@EVERY
async def test_work_that_goes_well_is_billed_once(
    emulator: Emulator, url: str, http_client: ClientOrTransport | None
) -> None:
    async with on_socket(url, http_client=http_client) as client:
        jobs = [await client.submit("a reef") for _ in range(3)]
        results = await client.gather_results(jobs)

    ids = [job.request_id for job in jobs]
    assert ids == [result.request_id for result in results]
    assert dict.fromkeys(ids, 1) == emulator.billed
    assert 3 == emulator.submits


@AIOHTTP
@pytest.mark.parametrize("drops", [1, 2, 3, 9])
async def test_aiohttp_is_kept_from_what_it_would_send_again(
    emulator: Emulator, url: str, http_client: ClientOrTransport | None, drops: int
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=drops)
    emulator.fault("submit", Fault.drop_after(), times=drops)

    async with on_socket(url, http_client=http_client) as client:
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef")

    assert {request_id: 1} == emulator.billed
    assert 2 == len(emulator.jobs)


REFUSING = ["default", "transport", "client", "aiohttp", "aiohttp in client"]


@pytest.mark.parametrize("http_client", REFUSING, indirect=True)
async def test_connection_that_is_refused_leaves_the_job_free(
    emulator: Emulator, http_client: ClientOrTransport | None
) -> None:
    request_id = emulator.add_job()

    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(contextlib.AsyncExitStack())
        url = await first.enter_async_context(emulator.serve())
        client = await stack.enter_async_context(on_socket(url, http_client=http_client))
        await client.status(request_id)
        await first.aclose()
        with pytest.raises(TransportError) as caught:
            await client.result(request_id)
        with pytest.raises(TransportError) as submitted:
            await client.submit("a reef")
        await stack.enter_async_context(emulator.serve(port=int(url.rsplit(":", 1)[1])))
        result = await client.result(request_id)

    assert not caught.value.maybe_sent
    assert not submitted.value.maybe_sent
    assert request_id == result.request_id
    assert {request_id: 1} == emulator.result_calls


@pytest.mark.parametrize("http_client", ["lying", "subclass", "lying client"], indirect=True)
async def test_connection_error_of_an_unknown_transport_proves_nothing(
    http_client: ClientOrTransport | None,
) -> None:
    async with on_socket("http://127.0.0.1:9", http_client=http_client) as client:
        with pytest.raises(ResultUncertainError):
            await client.result("x")
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef")


async def test_application_that_raises_may_have_done_its_work() -> None:
    asked: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["path"])
        raise httpx.ConnectError("to its own database")

    transport = httpx.ASGITransport(app)
    async with on_socket("http://127.0.0.1", http_client=transport) as client:
        with pytest.raises(ResultUncertainError):
            await client.result("x")
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef")

    assert 2 == len(asked)


async def test_full_pool_of_the_callers_sends_nothing(emulator: Emulator, url: str) -> None:
    blocking, wanted = emulator.add_job(), emulator.add_job()
    emulator.fault("status", Fault.hang(15), request_id=blocking)
    limits = httpx.Limits(max_connections=1)
    timeout = httpx.Timeout(5, pool=0.1)

    async with (
        httpx.AsyncClient(limits=limits) as inner,
        on_socket(url, http_client=inner, timeout=timeout) as client,
    ):
        asking = asyncio.create_task(client.status(blocking))
        await asyncio.sleep(0.1)
        with pytest.raises(TransportError, match="PoolTimeout") as caught:
            await client.result(wanted)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    assert not caught.value.maybe_sent
    assert {} == emulator.result_calls


WARNED = ["lying", "lying in client", "lying client", "resending", "subclass"]


@pytest.mark.parametrize("http_client", TRANSPORTS, indirect=True)
async def test_unknown_transport_is_warned_about_once(
    emulator: Emulator,
    url: str,
    http_client: ClientOrTransport | None,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kind = request.node.callspec.params["http_client"]

    async with on_socket(url, http_client=http_client) as client:
        for _ in range(2):
            await client.wait_for(await client.submit("a reef"))

    warnings = [r for r in caplog.records if r.name == "modelmax_async"]
    unknown = kind in {*WARNED, "resending in client"}
    assert (["WARNING"] if unknown else []) == [record.levelname for record in warnings]
    name = {"subclass": "Subclass", "lying client": "of its own"}.get(kind, kind.split()[0])
    assert not unknown or name.lower() in warnings[0].getMessage().lower()


async def test_transport_put_in_later_is_judged_anew(
    emulator: Emulator, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=None)

    async with httpx.AsyncClient() as inner, on_socket(url, http_client=inner) as client:
        await client.status(request_id)
        await inner._transport.aclose()
        inner._transport = Lying()
        with pytest.raises(ResultUncertainError):
            await client.result(request_id)

    assert "Lying" in caplog.text
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("first", [httpx.AsyncHTTPTransport, AiohttpTransport])
async def test_aiohttp_put_in_later_sends_nothing(
    emulator: Emulator, url: str, first: Callable[[], httpx.AsyncBaseTransport]
) -> None:
    inner = httpx.AsyncClient(transport=first())
    async with inner, on_socket(url, http_client=inner) as client:
        await inner._transport.aclose()
        inner._transport = AiohttpTransport()
        with pytest.raises(TransportError, match="make a new AsyncQueueClient") as caught:
            await client.submit("a reef")

    assert not caught.value.maybe_sent
    assert 0 == emulator.submits


async def test_transport_of_a_mount_is_the_one_that_counts(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    emulator.fault("result", Fault.drop_after(), times=9)
    mounts = {"http://127.0.0.1": AiohttpTransport(), "http://elsewhere": None}

    async with (
        httpx.AsyncClient(mounts=mounts) as inner,
        on_socket(url, http_client=inner) as client,
    ):
        with pytest.raises(ResultUncertainError):
            await client.wait_for(request_id)

    assert {request_id: 1} == emulator.billed


async def test_headers_of_the_callers_client_go_with_a_call_that_it_does_not_carry(
    emulator: Emulator, url: str
) -> None:
    inner = httpx.AsyncClient(transport=AiohttpTransport(), headers={"x-team": "reef"})

    async with inner, on_socket(url, http_client=inner) as client:
        await client.wait_for(emulator.add_job())

    assert ["reef", "reef"] == [seen.headers["x-team"] for seen in emulator.requests]
    assert [f"Bearer {KEY}"] * 2 == [
        seen.headers["authorization"] for seen in emulator.requests
    ]


@pytest.mark.parametrize("http_client", TRANSPORTS, indirect=True)
@pytest.mark.parametrize("polled", [True, False])
async def test_fetch_is_armed_before_it_reaches_the_server(
    emulator: Emulator, url: str, http_client: ClientOrTransport | None, polled: bool
) -> None:
    request_id = emulator.add_job()
    ledger = Moves()
    emulator.fault("result", Fault.hang(0.3))

    async with on_socket(url, http_client=http_client, ledger=ledger) as client:
        if polled:
            await client.status(request_id)
        fetching = asyncio.create_task(client.result(request_id))
        while not emulator.result_calls:
            await asyncio.sleep(0.01)
        before = list(ledger.names)
        await fetching

    assert ["Claim", Arm.__name__] == before


async def test_polls_are_traced_until_it_is_known_whether_events_come(
    emulator: Emulator, url: str
) -> None:
    """Each event costs time, and thousands of polls go out."""
    request_id = emulator.add_job()
    traced: list[bool] = []

    class Watching(httpx.AsyncClient):
        def build_request(self, *args: Any, **kwargs: Any) -> httpx.Request:
            traced.append("trace" in kwargs["extensions"])
            return super().build_request(*args, **kwargs)

    for inner, expected in ((Watching(), [True, False, False]), (Watching(), [True])):
        traced.clear()
        async with inner:
            transport = transport_to(url, inner)
            call = Call("GET", f"/v1/queue/veo-3/requests/{request_id}/status")
            for _ in itertools.repeat(None, len(expected)):
                await transport.poll(transport.prepare(call), lambda reply: reply)
            await transport.aclose()

        assert expected == traced


def _look_up_nothing(_: httpx.URL) -> httpx.AsyncBaseTransport:
    raise LookupError("not in this release")


@pytest.mark.parametrize("found", [_look_up_nothing, lambda _: None, None])
async def test_client_that_httpx_has_changed_inside_is_unknown(found: Any) -> None:
    client = httpx.AsyncClient()
    client._transport_for_url = found  # type: ignore[method-assign]  # as a release might

    assert Carrier(Kind.UNKNOWN, None) == find_carrier(client, httpx.URL("http://127.0.0.1"))
    await client.aclose()


async def test_client_or_transport_wrapped_by_a_tool_is_unknown() -> None:
    url = httpx.URL("http://127.0.0.1")
    transport, client, inner = httpx.AsyncHTTPTransport(), httpx.AsyncClient(), Wrapper()
    plain = PlainClient(transport)
    assert Kind.TRACED is find_carrier(plain, url).kind
    assert Kind.TRACED is find_carrier(client, url).kind

    transport.handle_async_request = inner.handle_async_request  # type: ignore[method-assign]
    client.send = Sender().send  # type: ignore[method-assign]

    assert Kind.UNKNOWN is find_carrier(plain, url).kind
    assert Kind.UNKNOWN is find_carrier(client, url).kind


async def test_mark_of_a_transport_is_not_inherited(emulator: Emulator) -> None:
    class Changed(InProcessTransport):
        pass

    url = httpx.URL("http://127.0.0.1")

    assert Kind.TRACED is find_carrier(PlainClient(emulator.transport()), url).kind
    assert Kind.UNKNOWN is find_carrier(PlainClient(Changed(emulator.app)), url).kind


async def test_events_of_an_unknown_transport_are_no_reason_to_arm_late(
    emulator: Emulator, url: str
) -> None:
    """What a wrapper traces says nothing about the transport that may come after it."""
    inner = httpx.AsyncClient(transport=Resending())
    async with inner:
        transport = transport_to(url, inner)
        await transport.submit(Call("POST", "/v1/queue/veo-3", b'{"prompt": "a reef"}'))
        await transport.aclose()

    assert 1 == emulator.submits
    assert transport._announced is None
