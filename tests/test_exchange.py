"""One exchange: how far it came, what is kept of it, and whose answer it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from raw_server import raw_server
from support import KEY, on_socket, transport_to

from modelmax_async import (
    ConfigurationError,
    InvalidResponseError,
    Job,
    RequestTimeoutError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._api.messages import Call, Reply
from modelmax_async._api_key import ApiKey
from modelmax_async._http import ClientOrTransport, Exchange, HTTPClient, Progress
from modelmax_async._http.exchange import translate
from modelmax_async._http.transports import Kind
from modelmax_async.emulator import Emulator, Fault

pytestmark = pytest.mark.anyio
CALL = Call("GET", "/v1/queue/veo-3/requests/x")
BODY = b'{"status": "COMPLETED", "data": [{"url": "/v"}]}'
STARTED = "http11.send_request_headers.started"
ANSWERED = "http11.receive_response_headers.complete"
CONNECTS = "connection.connect_tcp.started"


def same(reply: Reply) -> Reply:
    return reply


def test_progress_has_an_order() -> None:
    names = ["QUEUED", "CONNECTING", "SENT", "ANSWERED"]

    assert names == [progress.name for progress in sorted(Progress)]


async def test_exchange_starts_queued_and_goes_on_to_its_answer() -> None:
    exchange = Exchange(once=True)
    seen = [exchange.progress]

    await exchange.begin(Kind.OWN, by_trace=True)
    seen.append(exchange.progress)
    for name in (STARTED, ANSWERED):
        await exchange.trace(name, {})
        seen.append(exchange.progress)

    assert list(Progress) == seen


PROOFS = [
    (Kind.OWN, (), httpx.ConnectError, True),
    (Kind.OWN, (), httpx.PoolTimeout, False),
    (Kind.OWN, (CONNECTS,), httpx.ConnectError, False),
    (Kind.OWN, (CONNECTS,), OSError, False),
    (Kind.OWN, (CONNECTS, STARTED), httpx.ConnectError, True),
    (Kind.TRACED, (), httpx.ConnectError, True),
    (Kind.TRACED, (CONNECTS,), httpx.ConnectTimeout, False),
    (Kind.MOCK, (), httpx.ConnectError, False),
    (Kind.MOCK, (), httpx.UnsupportedProtocol, False),
    (Kind.MOCK, (), httpx.ReadError, True),
    (Kind.ASGI, (), httpx.ConnectError, True),
    (Kind.UNKNOWN, (), httpx.PoolTimeout, True),
    (Kind.UNKNOWN, (CONNECTS,), httpx.ConnectError, True),
]


@pytest.mark.parametrize(("kind", "events", "error", "sent"), PROOFS)
async def test_break_proves_as_much_as_the_kind_of_transport_allows(
    kind: Kind, events: tuple[str, ...], error: type[Exception], sent: bool
) -> None:
    exchange = Exchange(once=True)
    assert not exchange.maybe_sent(error("while it waits for a slot"))

    await exchange.begin(kind, by_trace=False)
    for name in events:
        await exchange.trace(name, {})

    assert sent == exchange.maybe_sent(error("later"))


@pytest.mark.parametrize(
    ("kind", "sent"), [(Kind.OWN, False), (Kind.TRACED, False), (Kind.AIOHTTP, True)]
)
async def test_free_call_without_events_goes_by_the_class_of_its_error(
    kind: Kind, sent: bool
) -> None:
    exchange = Exchange()
    await exchange.begin(kind, by_trace=False)

    assert sent == exchange.maybe_sent(httpx.ConnectError("refused"))
    assert exchange.maybe_sent(httpx.ReadError("broken"))


async def test_tunnel_through_a_proxy_is_no_byte_of_ours_and_its_answer_no_answer() -> None:
    armed: list[str] = []

    async def arm() -> None:
        armed.append("armed")

    exchange = Exchange(once=True, before_send=arm)
    await exchange.begin(Kind.OWN, by_trace=True)
    await exchange.trace(STARTED, {"request": SimpleNamespace(method=b"CONNECT")})
    await exchange.trace(ANSWERED, {})
    tunnelled = exchange.progress
    await exchange.trace(STARTED, {"request": SimpleNamespace(method=b"GET")})

    assert [Progress.CONNECTING, Progress.SENT] == [tunnelled, exchange.progress]
    assert ["armed"] == armed


async def test_only_the_head_of_an_answer_is_an_answer() -> None:
    exchange = Exchange()
    await exchange.begin(Kind.OWN, by_trace=True)
    for name in (
        STARTED,
        "http11.send_request_headers.complete",
        "http11.send_request_body.complete",
        "http11.receive_response_headers.started",
    ):
        await exchange.trace(name, {})

    assert Progress.SENT is exchange.progress


async def test_free_call_may_be_sent_again_and_is_armed_once() -> None:
    armed: list[str] = []

    async def arm() -> None:
        armed.append("armed")

    exchange = Exchange(before_send=arm)
    await exchange.begin(Kind.OWN, by_trace=True)
    for name in (STARTED, ANSWERED, STARTED):
        await exchange.trace(name, {})

    assert Progress.ANSWERED is exchange.progress
    assert ["armed"] == armed


async def test_only_an_answer_can_have_come_unarmed() -> None:
    async def arm() -> None:
        """Nothing is to be done."""

    exchange = Exchange(before_send=arm)
    await exchange.begin(Kind.OWN, by_trace=True)
    before = exchange.unarmed
    exchange.progress = Progress.ANSWERED

    assert [False, True] == [before, exchange.unarmed]


class SpeechlessError(Exception):
    def __str__(self) -> str:
        raise KeyError("no words")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (httpx.ReadTimeout("slow"), RequestTimeoutError, "ReadTimeout: slow"),
        (TimeoutError("slow"), RequestTimeoutError, "TimeoutError: slow"),
        (httpx.ReadError("key sk-emulator"), TransportError, "ReadError: key"),
        (OSError("gone"), TransportError, "OSError: gone"),
        (ExceptionGroup("1 of 1", [OSError("gone")]), TransportError, "OSError: gone"),
        (SpeechlessError(), TransportError, "SpeechlessError: (its text is not available)"),
        (TimeoutError(), RequestTimeoutError, "received: TimeoutError"),
    ],
)
@pytest.mark.parametrize("progress", [Progress.QUEUED, Progress.SENT])
@pytest.mark.parametrize("job", [None, Job("veo-3", "reef")])
def test_broken_exchange_is_told_in_our_words(
    error: Exception,
    kind: type[TransportError],
    words: str,
    progress: Progress,
    job: Job | None,
) -> None:
    exchange = Exchange()
    exchange.progress = progress

    told = translate(error, exchange, job, ApiKey(KEY), host="api.example:8443")

    sent = progress is Progress.SENT
    assert (kind, sent, job) == (type(told), told.maybe_sent, told.job)
    assert words in str(told)
    assert ("may have been sent" if sent else "was not sent") in str(told)
    assert (job is not None) is ("for job reef" in str(told))
    assert KEY not in str(told) + str(told.__cause__)
    assert isinstance(told.__cause__, httpx.TransportError)
    assert words.removeprefix("received: ") in str(told.__cause__)
    assert "the request to api.example:8443" in str(told)
    assert "api.example:8443" == told.host


def test_key_at_the_end_of_a_long_text_is_not_cut_in_two() -> None:
    error = httpx.ReadError("x" * 295 + KEY)

    told = translate(error, Exchange(), None, ApiKey(KEY), host="api.example")

    assert KEY[:5] not in str(told).replace("sk-...", "")


async def test_what_refuses_to_arm_leaves_the_exchange_queued() -> None:
    async def refuse() -> None:
        raise KeyError("not granted")

    transport = transport_to("http://127.0.0.1:9")
    exchange = Exchange(once=True, before_send=refuse)
    with pytest.raises(KeyError, match="not granted") as caught:
        await transport.send_once(CALL, exchange)

    assert caught.value is exchange.refusal
    assert Progress.QUEUED is exchange.progress
    assert not exchange.maybe_sent(caught.value)


async def test_exchange_broken_while_it_waits_for_a_slot_was_not_sent(
    emulator: Emulator, url: str
) -> None:
    blocking = emulator.add_job()
    emulator.fault("status", Fault.hang(15), request_id=blocking)
    path = f"/v1/queue/veo-3/requests/{blocking}/status"
    exchange = Exchange(once=True)
    transport = transport_to(url, size=1)
    asking = asyncio.create_task(transport.poll(transport.prepare(Call("GET", path)), same))
    await asyncio.sleep(0.05)
    waiting = asyncio.create_task(transport.send_once(CALL, exchange))
    await asyncio.sleep(0.05)

    waiting.cancel()
    asking.cancel()
    ended = await asyncio.gather(waiting, asking, return_exceptions=True)
    await transport.aclose()

    assert [asyncio.CancelledError] * 2 == [type(end) for end in ended]
    assert Progress.QUEUED is exchange.progress
    assert not exchange.maybe_sent(asyncio.CancelledError())


async def _stream(transport: HTTPClient, url: str) -> None:
    async with transport.receiver.receive(url, {}, with_key=True) as incoming:
        assert [] == [chunk async for chunk in incoming.chunks if not chunk]


@pytest.mark.parametrize("streamed", [True, False])
async def test_free_call_broken_in_an_unknown_way_was_maybe_sent(streamed: bool) -> None:
    class Odd(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise LookupError("a way of its own")

    transport = transport_to("http://127.0.0.1", Odd())
    poll = transport.poll(transport.prepare(CALL), same)
    with pytest.raises(TransportError, match="may have been sent") as caught:
        await (_stream(transport, "http://127.0.0.1/v") if streamed else poll)
    poll.close()

    assert caught.value.maybe_sent


async def test_body_that_breaks_off_was_sent() -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}") as server:
        url = f"http://127.0.0.1:{server.port}"
        with pytest.raises(TransportError) as caught:
            await _stream(transport_to(url), url)

    assert caught.value.maybe_sent


class Ending(httpx.AsyncByteStream):
    """A whole answer on a connection that does not end."""

    def __init__(self, body: bytes, closing: asyncio.Event) -> None:
        self.body = body
        self.closing = closing

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body

    async def aclose(self) -> None:
        self.closing.set()
        await asyncio.sleep(60)


def ending(closing: asyncio.Event, body: bytes = BODY, status: int = 200) -> ClientOrTransport:
    return httpx.MockTransport(lambda _: httpx.Response(status, stream=Ending(body, closing)))


@pytest.mark.parametrize("call", ["submit", "send_once", "poll"])
async def test_answer_is_there_though_time_runs_out_on_its_connection(call: str) -> None:
    transport = transport_to("http://127.0.0.1", ending(asyncio.Event()), timeout=0.1)

    if call == "poll":
        reply = await transport.poll(transport.prepare(CALL), same)
    elif call == "submit":
        reply = await transport.submit(CALL)
    else:
        reply = await transport.send_once(CALL, Exchange(once=True))

    assert BODY == reply.body


async def test_paid_answer_does_not_wait_long_for_the_end_of_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("modelmax_async._http.client._CLOSING", 0.05)
    transport = transport_to("http://127.0.0.1", ending(asyncio.Event()), timeout=None)

    async with asyncio.timeout(2):
        reply = await transport.send_once(CALL, Exchange(once=True))

    assert BODY == reply.body


@pytest.mark.parametrize("status", [200, 500])
async def test_answer_outlives_the_cancellation_of_its_call(status: int) -> None:
    closing = asyncio.Event()
    body = b'{"status": "COMPLETED", "data": "%s"}' % KEY.encode()
    transport = transport_to("http://127.0.0.1", ending(closing, body, status), timeout=None)
    exchange = Exchange(once=True)
    sending = asyncio.create_task(transport.send_once(CALL, exchange))
    await closing.wait()

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert exchange.reply is not None
    assert body.replace(KEY.encode(), b"sk-...") == exchange.reply.body


class Surplus:
    """Keeps connections, and gives the first request of the first some answers too many."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.url = ""
        self.connections = 0
        self.asked: list[str] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        while head := await _head(reader):
            name = head.split()[1].decode().split("/")[-2]
            self.asked.append(f"{number}:{name}")
            writer.write(_says(name))
            if len(self.asked) == 1:
                writer.write(_says("foreign") * self.answers)
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""


def _says(name: str) -> bytes:
    body = name.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@asynccontextmanager
async def surplus(answers: int = 1) -> AsyncIterator[Surplus]:
    served = Surplus(answers)
    server = await asyncio.start_server(served.handle, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield served
    server.close()


def expecting(name: str) -> Callable[[Reply], str]:
    def read(reply: Reply) -> str:
        if reply.body != name.encode():
            raise InvalidResponseError("the answer is about another job", body=reply.body)
        return name

    return read


KEPT: dict[str, Callable[[], ClientOrTransport | None]] = {
    "own": lambda: None,
    "client": lambda: httpx.AsyncClient(limits=httpx.Limits(max_connections=1)),
    "transport": lambda: httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=1)),
}


@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT.keys())
async def test_surplus_answer_reaches_one_call_at_most(
    make: Callable[[], ClientOrTransport | None],
) -> None:
    made = make()
    ended: list[Any] = []

    async with surplus() as server:
        transport = transport_to(server.url, made, size=1)
        for name in ("a", "b", "c", "d"):
            poll = transport.prepare(Call("GET", f"/{name}/status"))
            ended += await asyncio.gather(
                transport.poll(poll, expecting(name)), return_exceptions=True
            )
        await transport.aclose()
        if made is not None:
            await made.aclose()

    errors = [end for end in ended if isinstance(end, Exception)]
    assert ["a", *(errors or "b"), "c", "d"] == ended
    assert [] == [error for error in errors if getattr(error, "body", b"") != b"foreign"]
    assert len(errors) == (made is not None)  # the SDK's own connection is dropped before
    assert 2 == server.connections
    assert "2:c" in server.asked


@pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/2"])
async def test_connection_that_others_share_is_not_ended_for_one_answer(version: bytes) -> None:
    ended: list[bytes] = []

    class Stream:
        async def aclose(self) -> None:
            ended.append(version)
            raise OSError("already gone")

    extensions = {"network_stream": Stream(), "http_version": version}
    mock = httpx.MockTransport(
        lambda _: httpx.Response(200, content=b"y", extensions=extensions)
    )
    transport = transport_to("http://127.0.0.1", mock)

    with pytest.raises(InvalidResponseError):
        await transport.poll(transport.prepare(CALL), expecting("x"))

    assert ([version] if version == b"HTTP/1.1" else []) == ended


async def test_error_that_the_answer_tells_leaves_the_connection() -> None:
    def refuse(reply: Reply) -> None:
        raise LookupError("as the answer says")

    async with surplus(0) as server:
        transport = transport_to(server.url, size=1)
        for poll in [transport.prepare(Call("GET", f"/{name}/status")) for name in "ab"]:
            with pytest.raises(LookupError, match="as the answer says"):
                await transport.poll(poll, refuse)
        await transport.aclose()

    assert 1 == server.connections


LONG = "/v1/queue/veo-3/requests/x?" + "y" * 70_000


async def test_url_that_is_too_long_is_refused_in_our_words(
    emulator: Emulator, url: str
) -> None:
    job = Job("veo-3", "x", status_url=LONG + "/status", response_url=LONG)

    async with on_socket(url) as client:
        with pytest.raises(ValueError, match="Nothing was sent"):
            await client.result(job)
        transport = client._engine.http
        with pytest.raises(ValueError, match=r"the URL cannot be requested.*Nothing was sent"):
            transport.prepare(Call("GET", LONG))
        pending = await client.unresolved()

    assert [] == pending
    assert [] == emulator.requests


async def test_base_url_that_is_too_long_is_a_configuration_error() -> None:
    async with httpx.AsyncClient() as inner:
        with pytest.raises(ConfigurationError, match="base_url cannot be used: URL too long"):
            on_socket("http://127.0.0.1/" + "y" * 70_000, http_client=inner)


async def test_second_start_is_refused_while_the_first_may_have_paid() -> None:
    exchange = Exchange(once=True)
    await exchange.begin(Kind.UNKNOWN, by_trace=False)
    await exchange.trace(STARTED, {})

    with pytest.raises(RuntimeError, match="twice"):
        await exchange.trace(STARTED, {})


async def test_hanging_arming_is_bounded() -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    transport = transport_to("http://127.0.0.1:9", timeout=0.01)
    exchange = Exchange(once=True, before_send=hang)

    with pytest.raises(TransportError) as caught:
        await transport.send_once(CALL, exchange)

    assert not caught.value.maybe_sent
    assert not isinstance(caught.value, ResultUncertainError)


@pytest.mark.parametrize("given", ["client", "transport"])
async def test_oversized_response_to_a_free_call_is_not_read_to_its_end(given: str) -> None:
    """Nor is it decompressed: the caller's client must not read the body by itself."""
    read: list[int] = []

    class Large(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for number in range(64):
                read.append(number)
                yield bytes(1024 * 1024)

    mock = httpx.MockTransport(lambda _: httpx.Response(200, stream=Large()))
    made = mock if given == "transport" else httpx.AsyncClient(transport=mock)
    transport = transport_to("http://127.0.0.1", made)

    reply = await transport.poll(transport.prepare(CALL), same)

    assert reply.unread.startswith("is larger than 65536 bytes")
    assert (b"", [0]) == (reply.body, read)
