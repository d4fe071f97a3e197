"""respx under every client: it takes the trace events away, but not the safety."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from support import Moves, on_socket, transport_to

from modelmax_async import NotReadyError, SubmitUncertainError
from modelmax_async._api.messages import Call, Reply
from modelmax_async._http import ClientOrTransport, Exchange
from modelmax_async.emulator import Emulator, sample_mp4

pytestmark = pytest.mark.anyio
BASE = "http://127.0.0.1:9"
STATUS = {"request_id": "x", "status": "COMPLETED"}
RESULT = {"status": "COMPLETED", "model": "veo-3", "data": [{"url": "/v"}]}
SUBMIT = {"request_id": "x", "status": "IN_QUEUE"}
PATH = "/v1/queue/veo-3/requests/x"


@pytest.fixture
async def http_client(
    request: pytest.FixtureRequest,
) -> AsyncIterator[ClientOrTransport | None]:
    """The default client, or a caller's."""
    if request.param == "default":
        yield None
        return
    made = {"client": httpx.AsyncClient, "transport": httpx.AsyncHTTPTransport}[request.param]()
    async with made:
        yield made


@pytest.fixture
def mock(request: pytest.FixtureRequest) -> Iterator[respx.MockRouter]:
    """The API, mocked by the mocker that the test names."""
    with respx.mock(base_url=BASE, using=request.param, assert_all_called=False) as router:
        router.get(f"{PATH}/status").respond(json=STATUS)
        yield router


MOCKED = pytest.mark.parametrize(
    ("mock", "http_client"),
    list(itertools.product(("httpcore", "httpx"), ("default", "transport", "client"))),
    indirect=True,
)


@MOCKED
@pytest.mark.parametrize("method", ["wait_for", "result"])
async def test_fetch_is_armed_before_it_reaches_the_mock(
    mock: respx.MockRouter, http_client: ClientOrTransport | None, method: str
) -> None:
    ledger = Moves()
    before: list[str] = []

    def answer(_: httpx.Request) -> httpx.Response:
        before.extend(ledger.names)
        return httpx.Response(200, json=RESULT)

    route = mock.get(PATH).mock(side_effect=answer)
    async with on_socket(BASE, http_client=http_client, ledger=ledger) as client:
        result = await getattr(client, method)("x")

    assert "x" == result.request_id
    assert ["Claim", "Arm"] == before[-2:]
    assert 1 == before.count("Arm")
    assert 1 == route.call_count


@MOCKED
async def test_fetch_is_armed_again_for_each_request(
    mock: respx.MockRouter, http_client: ClientOrTransport | None
) -> None:
    ledger = Moves()
    seen: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        seen.append(ledger.names.count("Arm"))
        return httpx.Response(200, json={"status": "IN_PROGRESS"})

    mock.get(PATH).mock(side_effect=answer)
    async with on_socket(BASE, http_client=http_client, ledger=ledger) as client:
        for _ in range(3):
            with pytest.raises(NotReadyError):
                await client.result("x")
            await client.status("x")

    assert [1, 2, 3] == seen


@pytest.mark.parametrize(
    ("mock", "http_client"),
    [("httpcore", "default"), ("httpx", "default"), ("httpx", "client")],
    indirect=True,
)
async def test_break_without_events_is_not_taken_for_one_before_the_request(
    mock: respx.MockRouter, http_client: ClientOrTransport | None
) -> None:
    route = mock.post("/v1/queue/veo-3").mock(side_effect=httpx.ConnectError)

    async with on_socket(BASE, http_client=http_client) as client:
        with pytest.raises(SubmitUncertainError):
            await client.submit("a reef")

    assert 1 == route.call_count


@pytest.mark.parametrize("made_under_the_mock", [True, False])
@pytest.mark.parametrize("given", [True, False])
async def test_client_may_be_older_than_its_mock(
    *, given: bool, made_under_the_mock: bool
) -> None:
    async with httpx.AsyncClient() as made:
        inner = made if given else None
        older = on_socket(BASE, http_client=inner)
        with respx.mock(base_url=BASE, using="httpx") as mock:
            mock.post("/v1/queue/veo-3").respond(202, json=SUBMIT)
            client = on_socket(BASE, http_client=inner) if made_under_the_mock else older
            job = await client.submit("a reef")
            await client.aclose()
        await older.aclose()

    assert "x" == job.request_id


@pytest.mark.parametrize("using", ["httpcore", "httpx"])
async def test_user_mocks_a_whole_job_with_respx(using: str, tmp_path: Path) -> None:
    """The default client, from the submit to the file."""
    video = sample_mp4()
    with respx.mock(base_url=BASE, using=using) as router:
        router.post("/v1/queue/veo-3").respond(202, json=SUBMIT)
        router.get(f"{PATH}/status").respond(json=STATUS)
        result = router.get(PATH).respond(json=RESULT)
        router.get("/v").respond(content=video, content_type="video/mp4")
        async with on_socket(BASE) as client:
            found = await client.generate("a reef")
            (path,) = await client.download(found, tmp_path)

    assert 1 == result.call_count
    assert video == path.read_bytes()


async def test_answer_without_the_event_that_was_known_to_come_is_told(
    emulator: Emulator, url: str
) -> None:
    """The mock comes after the first poll: nothing armed, and the exchange says so."""
    request_id = emulator.add_job()
    transport = transport_to(url)
    armed: list[str] = []

    async def arm() -> None:
        armed.append("armed")

    def same(reply: Reply) -> Reply:
        return reply

    poll = Call("GET", f"/v1/queue/veo-3/requests/{request_id}/status")
    for _ in range(2):  # the first is traced, the second not, as it is known what comes
        await transport.poll(transport.prepare(poll), same)
    first, second, third = (Exchange(once=True, before_send=arm) for _ in range(3))
    call = Call("GET", f"/v1/queue/veo-3/requests/{request_id}")
    with respx.mock(base_url=url) as mock:
        mock.get(call.path).respond(json=RESULT)
        reply = await transport.send_once(call, first)
        counts: list[Any] = [len(armed)]
        await transport.send_once(call, second)
        counts.append(len(armed))
    await transport.send_once(call, third)
    await transport.aclose()

    assert 200 == reply.status
    assert [0, 1] == counts
    assert [True, False, False] == [each.unarmed for each in (first, second, third)]
    assert ["armed", "armed"] == armed
    assert {request_id: 1} == emulator.result_calls
