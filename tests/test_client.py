"""The client's life: arguments, event loops, closing, transports, bad input before I/O."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport
from support import KEY, in_process, on_socket, until

from modelmax_async import (
    AsyncQueueClient,
    ClientStateError,
    ConfigurationError,
    Job,
    MemoryLedger,
    Result,
    ResultDroppedError,
    SubmitUncertainError,
    TransportError,
    VideoParameters,
)
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator, Fault, JobScript
from modelmax_async.ledger import Key

pytestmark = pytest.mark.anyio


async def _use(client: AsyncQueueClient, request_id: str) -> Result:
    return await client.wait_for(request_id)


@pytest.mark.parametrize(
    "anyio_backend",
    [
        ("asyncio", {}),
        ("asyncio", {"use_uvloop": True}),
        ("asyncio", {"debug": True}),
    ],
    ids=["asyncio", "uvloop", "debug"],
)
async def test_works_on_every_loop(emulator: Emulator, url: str) -> None:
    emulator.script(JobScript(queue_seconds=0.05, run_seconds=0.05))

    async with on_socket(url) as client:
        job = await client.submit("a reef", parameters=VideoParameters(resolution="1080p"))
        result = await client.wait_for(job)

    assert job.request_id == result.request_id
    assert {job.request_id: 1} == emulator.billed


async def test_client_without_async_with_works_the_same(emulator: Emulator, url: str) -> None:
    client = on_socket(url)

    result = await client.wait_for(emulator.add_job())
    await client.aclose()
    await client.aclose()

    assert isinstance(result, Result)
    assert "closed" in repr(client)
    with pytest.raises(ClientStateError, match="closed"):
        await client.wait_for(result.request_id)


async def test_client_that_was_never_used_closes(url: str) -> None:
    client = on_socket(url)

    await client.aclose()

    assert "closed" in repr(client)


def test_second_event_loop_is_told_so_at_once() -> None:
    emulator = Emulator()
    client = AsyncQueueClient(
        api_key=KEY,
        base_url="http://127.0.0.1",
        model="veo-3",
        http_client=httpx.AsyncClient(transport=emulator.transport()),
    )
    asyncio.run(_use(client, emulator.add_job()))
    calls: list[Callable[[], Any]] = [
        lambda: client.wait_for("x"),
        lambda: client.submit("a reef"),
        client.pending,
        lambda: client.gather_results(["x"]),
        client.aclose,
    ]

    for call in calls:

        async def again(call: Callable[[], Any] = call) -> None:
            await call()

        with pytest.raises(ClientStateError, match="another event loop"):
            asyncio.run(again())


async def test_closing_tells_those_who_wait(emulator: Emulator, url: str) -> None:
    request_id = emulator.add_job(script=JobScript(run_seconds=100))
    client = on_socket(url)
    waiters = [asyncio.create_task(client.wait_for(request_id)) for _ in range(3)]
    batch: asyncio.Task[list[Any]] = asyncio.create_task(
        client.gather_results([request_id], return_exceptions=True)
    )
    await asyncio.sleep(0.1)

    await client.aclose()
    ended = await asyncio.gather(*waiters, return_exceptions=True)

    assert [ClientStateError] * 3 == [type(end) for end in ended]
    assert [ClientStateError] == [type(end) for end in await batch]


async def test_closing_in_the_middle_of_a_submit_says_that_a_job_may_exist(
    emulator: Emulator, url: str
) -> None:
    emulator.fault("submit", Fault.hang(15))
    client = on_socket(url)
    asking = asyncio.create_task(client.submit("a reef"))
    await asyncio.sleep(0.1)

    await client.aclose()

    with pytest.raises(SubmitUncertainError, match="closed"):
        await asking


async def test_base_url_with_a_path_is_put_before_each_path_once() -> None:
    emulator = Emulator(base_path="/gateway")

    async with emulator.serve() as url, on_socket(url) as client:
        job = await client.submit("a reef")
        result = await client.wait_for(job)
        same = await client.wait_for(emulator.add_job())

    assert url.endswith("/gateway")
    assert job.request_id == result.request_id != same.request_id


async def test_closing_cuts_a_free_call_short(emulator: Emulator, url: str) -> None:
    request_id = emulator.add_job()
    emulator.fault("status", Fault.hang(15))
    client = on_socket(url)
    asking = asyncio.create_task(client.status(request_id))
    await asyncio.sleep(0.1)

    started = asyncio.get_running_loop().time()
    await client.aclose()
    took = asyncio.get_running_loop().time() - started

    with pytest.raises(ClientStateError):
        await asking
    assert took < 1


async def test_injected_http_client_is_used_and_never_closed(
    emulator: Emulator, url: str
) -> None:
    http_client = httpx.AsyncClient(headers={"x-team": "reef"}, auth=("user", "password"))

    async with on_socket(url, http_client=http_client) as client:
        await client.wait_for(emulator.add_job())

    seen = emulator.requests[-1].headers
    assert not http_client.is_closed
    assert seen["x-team"] == "reef"
    assert f"Bearer {KEY}" == seen["authorization"]
    await http_client.aclose()


async def test_aiohttp_transport_is_a_fast_lane(emulator: Emulator) -> None:
    request_ids = [emulator.add_job(script=JobScript(run_seconds=0.2)) for _ in range(30)]
    odd = emulator.add_job("a/b+c=%?#")

    async with (
        emulator.serve() as url,
        httpx.AsyncClient(transport=AiohttpTransport()) as http_client,
        on_socket(url, http_client=http_client) as client,
    ):
        results = await client.gather_results([*request_ids, odd])

    assert [*request_ids, odd] == [result.request_id for result in results]
    assert Counter([*request_ids, odd]) == emulator.billed


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A forward proxy for plain HTTP: one request, then it hangs up."""
    head = await reader.readuntil(b"\r\n\r\n")
    method, target, rest = head.split(b" ", 2)
    url = httpx.URL(target.decode())
    far_reader, far_writer = await asyncio.open_connection(url.host, url.port)
    far_writer.write(method + b" " + url.raw_path + b" " + rest)
    writer.write(await far_reader.readuntil(b"\r\n\r\n"))
    writer.write(await far_reader.read(65536))
    await writer.drain()
    writer.close()
    far_writer.close()


@pytest.fixture
async def proxied() -> AsyncIterator[list[str]]:
    """A proxy's address, and its count of connections as it grows."""
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append("connection")
        await _forward(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    yield seen
    server.close()
    await server.wait_closed()


async def test_proxy_of_the_environment_is_honoured(
    emulator: Emulator, url: str, proxied: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxied[0])
    monkeypatch.delenv("no_proxy", raising=False)

    async with on_socket(url) as client:
        result = await client.wait_for(emulator.add_job())

    assert isinstance(result, Result)
    assert len(proxied) == 3  # its address, one poll, one billed call


async def test_connection_of_a_slot_is_kept_for_the_next_poll(
    emulator: Emulator, url: str
) -> None:
    async with on_socket(url, max_in_flight=2) as client:
        for _ in range(5):
            await client.status(emulator.add_job())

        assert "1 idle" in repr(client._engine.http)


async def test_in_flight_bound_holds_over_everything(emulator: Emulator, url: str) -> None:
    ids = [emulator.add_job(script=JobScript(run_seconds=0.2)) for _ in range(60)]

    async with on_socket(url, max_in_flight=5) as client:
        await asyncio.gather(
            client.gather_results(ids),
            *(client.status(request_id) for request_id in ids),
            *(client.submit("a reef") for _ in range(20)),
        )

    assert emulator.max_in_flight_seen <= 5
    assert emulator.billed_total == 60


async def test_timeout_may_name_its_phases(emulator: Emulator, url: str) -> None:
    emulator.fault("status", Fault.hang(15))

    async with on_socket(url, timeout=httpx.Timeout(10, read=0.1)) as client:
        result = await client.wait_for(emulator.add_job())

    assert isinstance(result, Result)


async def test_request_may_take_for_ever_if_told_so(emulator: Emulator, url: str) -> None:
    async with on_socket(url, timeout=None) as client:
        result = await client.wait_for(emulator.add_job())

    assert isinstance(result, Result)


async def test_server_that_is_not_there_is_a_transport_error_of_nothing_sent() -> None:
    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(TransportError, match="was not sent") as caught:
            await client.submit("a reef")

    assert not caught.value.maybe_sent
    assert caught.value == pickle.loads(pickle.dumps(caught.value))


HOSTILE = ["", ".", "..", "a\nb", "a\x00b", "\x7f", "x" * 4097, "\ud800"]


@pytest.mark.parametrize("request_id", HOSTILE)
async def test_hostile_ids_are_refused_before_any_io(
    emulator: Emulator, request_id: str
) -> None:
    async with in_process(emulator) as client:
        for call in (client.status, client.wait_for, client.result):
            with pytest.raises(ValueError, match="request id"):
                await call(request_id)
        with pytest.raises(ValueError, match="request id"):
            await client.gather_results([emulator.add_job(), request_id])
        with pytest.raises(ValueError, match="request id"):
            client.as_completed([request_id])
        with pytest.raises(ValueError, match="request id"):
            client.watch(request_id)
        with pytest.raises(ValueError, match="request id"):
            client.notify(request_id)

    assert emulator.requests == []


@pytest.mark.parametrize("model", ["", "..", "a\tb"])
async def test_hostile_models_are_refused_before_any_io(emulator: Emulator, model: str) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="model"):
            await client.submit("a reef", model=model)
        with pytest.raises(ValueError, match="model"):
            await client.wait_for("x", model=model)

    assert emulator.requests == []


@pytest.mark.parametrize("prompt", ["", "  \n", None, 5])
async def test_prompt_without_text_is_refused_before_any_io(
    emulator: Emulator, prompt: Any
) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="prompt"):
            await client.submit(prompt)

    assert emulator.requests == []


async def test_parameters_of_another_kind_are_refused_before_any_io(emulator: Emulator) -> None:
    wrong: Any = {"resolution": "720p"}

    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="VideoParameters"):
            await client.submit("a reef", parameters=wrong)

    assert [] == emulator.requests


async def test_bare_id_without_a_model_says_what_is_missing(emulator: Emulator) -> None:
    async with in_process(emulator, model=None) as client:
        with pytest.raises(ConfigurationError, match="which model"):
            await client.wait_for("x")
        job = await client.submit("a reef", model="veo-3-fast")
        result = await client.wait_for(job)

    assert result.model == "veo-3-fast"


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
async def test_unusable_timeout_is_refused_before_any_io(
    emulator: Emulator, timeout: Any
) -> None:
    async with in_process(emulator) as client:
        for call in (client.wait_for, client.generate):
            with pytest.raises(ValueError, match="timeout"):
                await call("x", timeout=timeout)

    assert emulator.requests == []


ODD = [
    "a/b",
    "a+b=",
    "a?b",
    "a#b",
    "a%2Fb",
    "100%",
    "é漢😀",
    "a b",
    "a:b@c",
    "~a;b,c&d",
    "a\\b",
]


@pytest.mark.parametrize("request_id", ODD)
async def test_odd_ids_reach_the_server_as_one_intact_segment(
    emulator: Emulator, url: str, request_id: str
) -> None:
    emulator.add_job(request_id)

    async with on_socket(url) as client:
        result = await client.wait_for(request_id)

    paths = [received.raw_path for received in emulator.requests]
    assert request_id == result.request_id
    assert {6, 7} == {len(path.split("/")) for path in paths}
    assert {request_id: 1} == emulator.billed


@pytest.mark.parametrize("path", ["", "/v1/queue/veo-3/requests/x", "//evil.example/status"])
async def test_status_path_that_could_bill_is_never_polled(
    emulator: Emulator, path: str
) -> None:
    request_id = emulator.add_job("x")
    job = Job("veo-3", request_id, path, "@evil.example/")

    async with in_process(emulator) as client:
        await client.wait_for(job)

    assert [received.endpoint for received in emulator.requests] == ["status", "result"]


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": None},
        {"api_key": "sk-with space"},
        {"api_key": "sk-secret\n"},
        {"api_key": b"sk-bytes"},
        {"base_url": "http://api.modelmax.io"},
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": "https://user:sk-secret@api.modelmax.io"},
        {"on_uncertain": "ignore"},
        {"max_in_flight": 0},
        {"max_in_flight": 2.5},
        {"timeout": 0},
        {"timeout": "fast"},
        {"model": ".."},
    ],
)
def test_unusable_setting_is_refused_and_the_key_not_shown(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncQueueClient(**({"api_key": "sk-secret"} | options))

    assert "secret" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_insecure_base_url_needs_a_word_from_the_user() -> None:
    client = AsyncQueueClient(
        api_key=KEY, base_url="http://gateway.internal", allow_insecure=True
    )

    assert "http://gateway.internal:80" in repr(client)
    assert KEY not in repr(client)


def test_half_made_client_can_be_shown() -> None:
    client = AsyncQueueClient.__new__(AsyncQueueClient)

    assert "<AsyncQueueClient not set up>" == repr(client)


def test_secure_client_is_made_without_io() -> None:
    assert "https://api.modelmax.io:443" in repr(AsyncQueueClient(api_key=KEY))


async def test_no_socket_is_left_open_and_no_warning_given(
    url: str, emulator: Emulator
) -> None:
    """A program of its own, under development mode with warnings as errors."""
    request_ids = [emulator.add_job() for _ in range(3)]
    program = f"""
        import asyncio, gc
        from modelmax_async import AsyncQueueClient, SQLiteLedger

        async def main():
            client = AsyncQueueClient(api_key="{KEY}", base_url="{url}", model="veo-3")
            results = await client.gather_results({request_ids!r})
            await client.aclose()
            print(len(results))

        asyncio.run(main())
        gc.collect()
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(program)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert out == b"3\n"
    assert err == b""


ASK: dict[str, Any] = {
    "wait_for": lambda client, job: client.wait_for(job),
    "result": lambda client, job: client.result(job),
    "status": lambda client, job: client.status(job),
    "gather_results": lambda client, job: client.gather_results([job]),
    "watch": lambda client, job: anext(client.watch(job)),
    "as_completed": lambda client, job: anext(client.as_completed([job])),
}


@pytest.mark.parametrize("ask", ASK.values(), ids=ASK.keys())
async def test_job_with_another_jobs_path_is_refused_before_any_request(
    emulator: Emulator, url: str, ask: Any
) -> None:
    mine, other = emulator.add_job(), emulator.add_job()
    theirs = make_job("veo-3", other)
    ledger = MemoryLedger()

    async with on_socket(url, ledger=ledger) as client:
        for job in (
            Job("veo-3", mine, response_url=theirs.response_url),
            Job("veo-3", mine, "/v1/queue/veo-3/requests/x/%2e%2e/status"),
        ):
            with pytest.raises(ValueError, match="Nothing was sent"):
                await ask(client, job)

    assert [] == emulator.requests
    assert "0 jobs" in repr(ledger)


async def test_url_that_is_too_long_is_refused_before_any_request(
    emulator: Emulator, url: str
) -> None:
    request_id = emulator.add_job()
    path = f"{make_job('veo-3', request_id).status_url}?{'x' * 70_000}"

    async with on_socket(url) as client:
        with pytest.raises(ValueError, match="Nothing was sent") as caught:
            await client.wait_for(Job("veo-3", request_id, path))

    assert len(str(caught.value)) < 500
    assert [] == emulator.requests


async def test_delivered_result_that_gave_way_is_not_fetched_again(
    emulator: Emulator, url: str
) -> None:
    jobs = [emulator.add_job() for _ in range(6)]
    ledger = MemoryLedger(max_entries=3)

    async with on_socket(url, ledger=ledger) as client:
        for job in jobs:
            await client.wait_for(job)
        for ask in (client.wait_for, client.result):
            with pytest.raises(ResultDroppedError, match="accept_second_charge=True"):
                await ask(jobs[0])
        assert dict.fromkeys(jobs, 1) == emulator.billed
        again = await client.result(jobs[0], accept_second_charge=True)

    assert jobs[0] == again.request_id
    assert {**dict.fromkeys(jobs, 1), jobs[0]: 2} == emulator.billed


async def test_result_counts_as_delivered_however_it_is_asked_for(
    emulator: Emulator, url: str
) -> None:
    class Told(MemoryLedger):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[str] = []

        def delivered(self, key: Key) -> None:
            self.told.append(key.request_id)

    def stored_in(ledger: MemoryLedger) -> list[str]:
        entries = ledger._entries.values()
        return [entry.job.request_id for entry in entries if entry.state == "stored"]

    jobs = [emulator.add_job() for _ in range(6)]
    failing = emulator.add_job(script=JobScript(outcome="FAILED"))
    ledger = Told()

    async with on_socket(url, ledger=ledger) as client:
        await client.wait_for(jobs[0])
        await client.result(jobs[1])
        await client.gather_results([jobs[2], failing], return_exceptions=True)
        async for outcome in client.as_completed([jobs[3], failing]):
            del outcome
        outcomes = client.as_completed([jobs[4]])
        await anext(outcomes)
        await outcomes.aclose()
        emulator.fault("result", Fault.hang(0.3))
        waiting = asyncio.create_task(client.wait_for(jobs[5]))
        await until(lambda: emulator.billed[jobs[5]])
        waiting.cancel()
        await until(lambda: len(stored_in(ledger)) == len(jobs))

    assert jobs[:5] == ledger.told
