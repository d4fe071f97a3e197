"""The emulator's faults, each over a socket and in process."""

from __future__ import annotations

import asyncio
import inspect
import selectors
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async.emulator import Content, Emulator, Fault, JobScript, sample_mp4
from modelmax_async.emulator._inprocess import InProcessTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modelmax_async.emulator._connection import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer sk-emulator"}
JOB = "/v1/queue/veo-3/requests/one"


def is_ours(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    assert inspect.iscoroutine(coroutine)
    return any(word in coroutine.cr_code.co_filename for word in ("emulator/", "uvicorn"))


async def read_into(sink: bytearray, answer: httpx.Response) -> None:
    async for part in answer.aiter_raw():
        sink += part


async def until_busy(emulator: Emulator) -> None:
    while not emulator.in_flight:
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def emulator(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Emulator]:
    """Check that no fault leaves a request, a task or a log record behind."""
    emulator = Emulator()
    yield emulator
    for _ in range(20):
        left = [task for task in asyncio.all_tasks() if is_ours(task)]
        if not left and not emulator.in_flight:
            break
        await asyncio.sleep(0.001)

    assert [] == left
    assert 0 == emulator.in_flight
    assert [] == [r for r in caplog.records if not r.name.startswith(("httpx", "asyncio"))]


@pytest.fixture(params=["in process", "socket"])
async def client(
    emulator: Emulator, request: pytest.FixtureRequest
) -> AsyncIterator[httpx.AsyncClient]:
    if request.param == "socket":
        async with (
            emulator.serve() as url,
            httpx.AsyncClient(base_url=url, headers=KEY) as client,
        ):
            yield client
    else:
        async with httpx.AsyncClient(
            transport=emulator.transport(), base_url="http://emulator", headers=KEY
        ) as client:
            yield client


@pytest.fixture
def one(emulator: Emulator) -> str:
    return emulator.add_job("one")


def video_path(emulator: Emulator, script: JobScript) -> str:
    job = emulator.jobs[emulator.add_job(script=script)]
    return f"/v1/queue/veo-3/requests/{quote(job.content_id, safe='')}/content/0"


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("fault", "billed"),
    [(Fault.drop_before(), {}), (Fault.drop_after(), {"one": 1})],
)
async def test_dropped_call_is_billed_only_if_processed(
    emulator: Emulator, client: httpx.AsyncClient, fault: Fault, billed: dict[str, int]
) -> None:
    emulator.fault("result", fault)
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)) as caught:
        await client.get(JOB)
    again = await client.get(JOB)

    if caught.type is httpx.RemoteProtocolError:
        assert "Server disconnected without sending a response." == str(caught.value)

    assert "COMPLETED" == again.json()["status"]
    assert sum(billed.values()) + 1 == emulator.billed_total


async def test_submit_dropped_after_processing_leaves_a_job(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.fault("submit", Fault.drop_before())
    emulator.fault("submit", Fault.drop_after())
    made = []
    for _ in range(2):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await client.post("/v1/queue/veo-3", json={"prompt": "x"})
        made.append(len(emulator.jobs))

    assert [0, 1] == made
    assert 2 == emulator.submits


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("keep", [0, 5])
async def test_truncated_response_is_billed(
    emulator: Emulator, client: httpx.AsyncClient, keep: int
) -> None:
    emulator.fault("result", Fault.truncate(keep))
    received = bytearray()
    async with client.stream("GET", JOB) as answer:
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            await read_into(received, answer)

    assert 200 == answer.status_code
    assert int(answer.headers["content-length"]) > keep
    assert b'{"request_id": "one"'[:keep] == bytes(received)
    assert {"one": 1} == emulator.billed


@pytest.mark.usefixtures("one")
async def test_truncating_beyond_the_end_keeps_the_response_complete(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.fault("result", Fault.truncate(100_000))
    answer = await client.get(JOB)

    assert "COMPLETED" == answer.json()["status"]


@pytest.mark.usefixtures("one")
async def test_hang_delays_the_response(emulator: Emulator, client: httpx.AsyncClient) -> None:
    emulator.fault("result", Fault.hang(0.05))
    emulator.fault("result", Fault.hang(0.05, processed=False))
    loop = asyncio.get_running_loop()
    start = loop.time()
    first = await client.get(JOB)
    middle = loop.time()
    second = await client.get(JOB)
    end = loop.time()

    assert "COMPLETED" == first.json()["status"]
    assert 504 == second.status_code
    assert second.headers["content-type"].startswith("text/html")
    assert middle - start >= 0.045
    assert end - middle >= 0.045
    assert {"one": 1} == emulator.billed


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(("processed", "billed"), [(True, 1), (False, 0)])
async def test_hang_exceeds_the_read_timeout(
    emulator: Emulator,
    client: httpx.AsyncClient,
    *,
    processed: bool,
    billed: int,
) -> None:
    emulator.fault("result", Fault.hang(1000, processed=processed))
    with pytest.raises(httpx.ReadTimeout):
        await client.get(JOB, timeout=0.05)

    assert billed == emulator.billed_total


@pytest.mark.usefixtures("one")
async def test_cancelled_call_is_billed(emulator: Emulator, client: httpx.AsyncClient) -> None:
    emulator.fault("result", Fault.hang(1000))
    call = asyncio.create_task(client.get(JOB))
    await until_busy(emulator)
    call.cancel()
    await asyncio.wait([call])

    assert call.cancelled()
    assert {"one": 1} == emulator.billed


@pytest.mark.usefixtures("one")
async def test_garbled_response_is_billed(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.fault("result", Fault.garble())
    answer = await client.get(JOB)

    assert (200, b"{not json") == (answer.status_code, answer.content)
    assert {"one": 1} == emulator.billed


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("n_bytes", [0, 200_000])
async def test_oversized_response_is_still_json(
    emulator: Emulator, client: httpx.AsyncClient, n_bytes: int
) -> None:
    emulator.fault("result", Fault.oversize(n_bytes))
    answer = await client.get(JOB)

    assert "COMPLETED" == answer.json()["status"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert max(n_bytes, len(answer.content.rstrip())) == len(answer.content)
    assert {"one": 1} == emulator.billed


@pytest.mark.usefixtures("one")
async def test_gzip_response_is_small_and_expands(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.fault("result", Fault.gzip())
    emulator.fault("result", Fault.gzip(n_bytes=1_000_000))
    plain = await client.get(JOB)
    bomb = await client.get(JOB)

    assert "gzip" == plain.headers["content-encoding"]
    assert "COMPLETED" == plain.json()["status"]
    assert int(bomb.headers["content-length"]) < 10_000
    assert 1_000_000 == len(bomb.content)
    assert {"one": 2} == emulator.billed


async def test_gzip_works_on_content(emulator: Emulator, client: httpx.AsyncClient) -> None:
    url = video_path(emulator, JobScript())
    emulator.fault("content", Fault.gzip())
    answer = await client.get(url)

    assert sample_mp4() == answer.content


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize("processed", [True, False])
async def test_error_responses_are_sent_as_specified(
    emulator: Emulator,
    client: httpx.AsyncClient,
    *,
    processed: bool,
) -> None:
    emulator.fault("result", Fault.error(502, retry_after="7", processed=processed))
    emulator.fault("result", Fault.html(503, processed=processed))
    emulator.fault("result", Fault.redirect("https://elsewhere/", processed=processed))
    error, html, redirect = [await client.get(JOB) for _ in range(3)]

    message = "the emulator was told to fail"

    assert 502 == error.status_code
    assert {"error": {"message": message, "type": "bad_gateway"}} == error.json()
    assert "7" == error.headers["retry-after"]
    assert 503 == html.status_code
    assert html.text.startswith("<html>")
    assert 302 == redirect.status_code
    assert "https://elsewhere/" == redirect.headers["location"]
    assert (3 if processed else 0) == emulator.billed_total


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("fault", "billed"),
    [
        (Fault.raw(200, b"x", {"X-A": "1"}), 1),
        (Fault.raw(500, b"x", [("X-A", "1")]), 0),
        (Fault.raw(500, b"x", {"X-A": "1"}, processed=True), 1),
    ],
)
async def test_raw_responses_are_sent_unchanged(
    emulator: Emulator, client: httpx.AsyncClient, fault: Fault, billed: int
) -> None:
    emulator.fault("result", fault)
    answer = await client.get(JOB)

    assert b"x" == answer.content
    assert {"x-a": "1", "content-length": "1"} == answer.headers
    assert billed == emulator.billed_total


async def test_raw_response_may_announce_a_wrong_length(emulator: Emulator) -> None:
    emulator.fault("status", Fault.raw(200, b"x", {"content-length": "2"}))
    transport = emulator.transport()
    with pytest.raises(httpx.RemoteProtocolError):
        async with httpx.AsyncClient(transport=transport, headers=KEY) as client:
            await client.get(f"http://emulator{JOB}/status")


@pytest.mark.usefixtures("one")
async def test_faults_are_used_in_the_order_of_planning(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.add_job("two")
    emulator.fault("status", Fault.error(500), request_id="two")
    emulator.fault("status", Fault.error(503), times=2)
    emulator.fault("result", Fault.error(502), times=None)
    ones = [(await client.get(f"{JOB}/status")).status_code for _ in range(3)]
    two = (await client.get("/v1/queue/veo-3/requests/two/status")).status_code
    results = [(await client.get(JOB)).status_code for _ in range(3)]
    emulator.clear_faults()
    cleared = (await client.get(JOB)).status_code

    assert [503, 503, 200] == ones
    assert 500 == two
    assert [502, 502, 502] == results
    assert 200 == cleared
    assert "Fault(name='error 500', processed=False)" == repr(Fault.error(500))


def test_impossible_faults_are_refused() -> None:
    emulator = Emulator()
    elsewhere: Any = "unknown"

    with pytest.raises(ValueError, match="endpoint must be one of"):
        emulator.fault(elsewhere, Fault.html(500))
    for endpoint in ("submit", "config"):
        with pytest.raises(ValueError, match="request_id must be None"):
            emulator.fault(endpoint, Fault.html(500), request_id="one")
    with pytest.raises(ValueError, match="times must be"):
        emulator.fault("status", Fault.html(500), times=0)


async def test_stopping_the_server_ends_its_requests(emulator: Emulator) -> None:
    emulator.fault("status", Fault.hang(1000))
    async with httpx.AsyncClient(headers=KEY) as client:
        async with emulator.serve() as url:
            call = asyncio.create_task(client.get(f"{url}{JOB}/status", timeout=None))
            await until_busy(emulator)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await call


# --- content


@pytest.mark.parametrize("length", [True, False])
async def test_generated_content_is_a_sequence_of_boxes(
    emulator: Emulator,
    client: httpx.AsyncClient,
    *,
    length: bool,
) -> None:
    content = Content(size=300_000, length=length, content_type="video/x")
    answer = await client.get(video_path(emulator, JobScript(content=content)))

    body = answer.content
    assert 300_000 == len(body)
    assert b"ftyp" == body[4:8]
    ftyp = int.from_bytes(body[:4], "big")

    assert b"mdat" == body[ftyp + 4 : ftyp + 8]
    assert 300_000 == ftyp + int.from_bytes(body[ftyp : ftyp + 4], "big")
    assert ("content-length" in answer.headers) is length
    assert "video/x" == answer.headers["content-type"]


def test_generated_content_may_be_larger_than_4_gib() -> None:
    content = Content(size=5 * 2**30)
    head = b"".join(content.window(0, 40))

    assert 5 * 2**30 == content.total
    assert b"\x00\x00\x00\x01mdat" + (5 * 2**30 - 24).to_bytes(8, "big") == head[24:40]
    assert 10 == len(b"".join(content.window(content.total - 10, content.total)))


@given(st.data())
def test_window_is_a_slice_of_the_whole(data: st.DataObject) -> None:
    size = data.draw(st.integers(32, 400))
    chunk = data.draw(st.integers(1, 300))
    body = data.draw(st.none() | st.binary(max_size=400))
    content = Content(size=size if body is None else None, body=body, chunk=chunk)
    start = data.draw(st.integers(0, content.total))
    stop = data.draw(st.integers(start, content.total))
    whole = b"".join(content.window(0, content.total))

    assert content.total == len(whole)
    assert whole[start:stop] == b"".join(content.window(start, stop))


ETAG = '"e"'
WHOLE = bytes(range(100))


@pytest.mark.parametrize(
    ("mode", "headers", "status", "content_range", "part"),
    [
        ("honour", {"range": "bytes=10-"}, 206, "bytes 10-99/100", (10, 100)),
        ("honour", {"range": "bytes=10-19"}, 206, "bytes 10-19/100", (10, 20)),
        ("honour", {"range": "bytes=90-500"}, 206, "bytes 90-99/100", (90, 100)),
        ("honour", {"range": "bytes=-5"}, 206, "bytes 95-99/100", (95, 100)),
        ("honour", {"range": "bytes=-500"}, 206, "bytes 0-99/100", (0, 100)),
        ("honour", {"range": "bytes=-"}, 200, None, (0, 100)),
        ("honour", {"range": "lines=1-"}, 200, None, (0, 100)),
        ("honour", {"range": "bytes=100-"}, 416, "bytes */100", None),
        (
            "honour",
            {"range": "bytes=10-", "if-range": ETAG},
            206,
            "bytes 10-99/100",
            (10, 100),
        ),
        ("honour", {"range": "bytes=10-", "if-range": '"f"'}, 200, None, (0, 100)),
        ("honour", {}, 200, None, (0, 100)),
        ("ignore", {"range": "bytes=10-"}, 200, None, (0, 100)),
        ("wrong-offset", {"range": "bytes=10-"}, 206, "bytes 11-99/100", (11, 100)),
        ("wrong-offset", {"range": "bytes=99-"}, 206, "bytes 99-99/100", (99, 100)),
        ("wrong-total", {"range": "bytes=10-"}, 206, "bytes 10-99/101", (10, 100)),
        ("416", {"range": "bytes=10-"}, 416, "bytes */100", None),
        ("416", {}, 200, None, (0, 100)),
        ("no-content-range", {"range": "bytes=10-"}, 206, None, (10, 100)),
    ],
)
async def test_ranges_are_served_as_specified(  # noqa: PLR0917 - each row is a case
    emulator: Emulator,
    client: httpx.AsyncClient,
    mode: Any,
    headers: dict[str, str],
    status: int,
    content_range: str | None,
    part: tuple[int, int] | None,
) -> None:
    content = Content(body=WHOLE, etag=ETAG, ranges=mode)
    answer = await client.get(video_path(emulator, JobScript(content=content)), headers=headers)

    assert status == answer.status_code
    assert content_range == answer.headers.get("content-range")
    assert ETAG == answer.headers["etag"]
    assert (None if mode == "ignore" else "bytes") == answer.headers.get("accept-ranges")
    if part is None:
        assert "bad_request" == answer.json()["error"]["type"]
    else:
        assert WHOLE[slice(*part)] == answer.content


async def test_changing_content_has_a_new_tag_and_new_bytes(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    content = Content(size=1000, etag_changes=True)
    url = video_path(emulator, JobScript(content=content))
    first, second = [await client.get(url) for _ in range(2)]
    resumed = await client.get(
        url, headers={"range": "bytes=10-", "if-range": second.headers["etag"]}
    )

    assert ['"v1"', '"v2"'] == [first.headers["etag"], second.headers["etag"]]
    assert first.content != second.content
    assert 200 == resumed.status_code
    assert 1000 == len(resumed.content)


@pytest.mark.parametrize("length", [True, False])
async def test_content_is_cut_as_often_as_specified(
    emulator: Emulator,
    client: httpx.AsyncClient,
    *,
    length: bool,
) -> None:
    content = Content(size=3_000_000, cut_after=2_000_000, cut_times=2, length=length)
    url = video_path(emulator, JobScript(content=content))
    sizes = []
    for _ in range(2):
        received = bytearray()
        async with client.stream("GET", url) as answer:
            with pytest.raises(httpx.RemoteProtocolError):
                await read_into(received, answer)
        sizes.append(len(received))
    whole = await client.get(url)

    assert [2_000_000, 2_000_000] == sizes
    assert 3_000_000 == len(whole.content)


async def test_client_may_disconnect_in_the_middle_of_a_video(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    url = video_path(emulator, JobScript(content=Content(size=10**12)))
    async with client.stream("GET", url) as answer:
        async for part in answer.aiter_raw():
            first = part
            break

    assert b"ftyp" == first[4:8]
    assert str(10**12) == answer.headers["content-length"]


async def test_pieces_are_received_as_they_are_sent(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    content = Content(body=b"ab", chunk=1, delay=0.05)
    url = video_path(emulator, JobScript(content=content))
    loop = asyncio.get_running_loop()
    async with client.stream("GET", url) as answer:
        times = [loop.time() async for _ in answer.aiter_raw()]

    assert 2 == len(times)
    assert times[1] - times[0] >= 0.04


async def test_slow_piece_exceeds_the_read_timeout(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    content = Content(body=b"ab", chunk=1, delay=1000)
    url = video_path(emulator, JobScript(content=content))
    async with client.stream("GET", url, timeout=0.05) as answer:
        with pytest.raises(httpx.ReadTimeout):
            await answer.aread()

    assert 200 == answer.status_code


# --- the in-process transport


def in_process(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=InProcessTransport(app), base_url="http://emulator")


async def test_application_error_is_raised_for_the_client() -> None:
    async def app(_: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    async with in_process(app) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/")


async def test_silent_application_is_a_protocol_error() -> None:
    async def app(_: Scope, _receive: Receive, _send: Send) -> None:
        pass

    async with in_process(app) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="without a response"):
            await client.get("/")


async def test_application_waits_for_a_slow_client() -> None:
    sent = 0

    async def app(_: Scope, _receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _n in range(50):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with in_process(app) as client, client.stream("GET", "/") as answer:
        await asyncio.sleep(0.01)
        early = sent
        body = await answer.aread()

    assert early < 5
    assert b"x" * 50 == body


async def test_closing_the_transport_cancels_running_requests(emulator: Emulator) -> None:
    emulator.fault("status", Fault.hang(1000))
    client = httpx.AsyncClient(transport=emulator.transport(), headers=KEY)
    call = asyncio.create_task(client.get(f"http://emulator{JOB}/status", timeout=None))
    await asyncio.sleep(0.01)
    await client.aclose()

    with pytest.raises(httpx.RemoteProtocolError):
        await call


async def test_trace_events_are_sent_before_the_request(emulator: Emulator) -> None:
    events = []

    async def trace(event: str, info: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        events.append((event, sorted(info), len(emulator.requests)))

    async with httpx.AsyncClient(transport=emulator.transport(), headers=KEY) as client:
        await client.get("http://emulator/v1/config", extensions={"trace": trace})

    assert [
        ("http11.send_request_headers.started", ["request"], 0),
        ("http11.send_request_headers.complete", ["return_value"], 0),
    ] == events


async def test_sends_after_a_disconnect_are_ignored() -> None:
    sent = asyncio.Event()

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        sent.set()

    async with in_process(app) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/", timeout=0.01)
        await asyncio.wait_for(sent.wait(), 1)

    assert sent.is_set()


async def test_only_a_disconnect_ends_a_hang(emulator: Emulator) -> None:
    emulator.fault("status", Fault.hang(1000))
    messages = [{"type": name} for name in ("http.request", "http.request", "http.disconnect")]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": f"{JOB}/status", "headers": []}
    await emulator.app(scope, receive, send)

    assert [] == messages
    assert {"one": 1} == emulator.polls


async def test_drop_under_a_foreign_server_is_a_connection_error(emulator: Emulator) -> None:
    emulator.fault("status", Fault.drop_after())
    transport = httpx.ASGITransport(emulator.app)
    async with httpx.AsyncClient(transport=transport, headers=KEY) as client:
        with pytest.raises(ConnectionResetError):
            await client.get(f"http://emulator{JOB}/status")


class _Jumping(selectors.DefaultSelector):
    """A selector that advances a clock instead of waiting."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def test_all_times_are_loop_times() -> None:
    async def main() -> tuple[list[str], float]:
        script = JobScript(
            queue_seconds=600, run_seconds=3000, content=Content(size=200_000, delay=100)
        )
        emulator = Emulator(script=script)
        emulator.fault("status", Fault.hang(600))
        emulator.fault("status", Fault.hang(10_000))
        loop = asyncio.get_running_loop()
        words = []
        async with httpx.AsyncClient(
            transport=emulator.transport(), base_url="http://e", headers=KEY, timeout=5000
        ) as client:
            ticket = (await client.post("/v1/queue/veo-3", json={"prompt": "x"})).json()
            words.append((await client.get(ticket["status_url"])).json()["status"])
            with pytest.raises(httpx.ReadTimeout):
                await client.get(ticket["status_url"])
            result = (await client.get(ticket["response_url"])).json()
            words.append(result["status"])
            await client.get(result["data"][0]["url"])
        return words, loop.time()

    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        words, elapsed = runner.run(main())

    assert ["IN_QUEUE", "COMPLETED"] == words
    assert pytest.approx(600 + 5000 + 4 * 100, abs=1) == elapsed
