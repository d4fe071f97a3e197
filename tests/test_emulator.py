"""The emulator: the documented endpoints, job times, billed calls, and both transports."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import runpy
import signal
import subprocess
import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import av
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modelmax_async.emulator as package
from modelmax_async.emulator import Content, Emulator, JobScript, sample_mp4
from modelmax_async.emulator._requests import Route, route

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from modelmax_async.emulator._connection import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

KEY = {"authorization": "Bearer sk-emulator"}
SLOW = JobScript(queue_seconds=0.02, run_seconds=0.02)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def emulator() -> Emulator:
    return Emulator()


@pytest.fixture
async def client(emulator: Emulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        transport=emulator.transport(), base_url="http://emulator", headers=KEY
    ) as client:
        yield client


def path(request_id: str, model: str = "veo-3") -> str:
    return f"/v1/queue/{model}/requests/{quote(request_id, safe='')}"


def failure(kind: str, message: str) -> dict[str, dict[str, str]]:
    return {"error": {"message": message, "type": kind}}


async def test_submitted_job_runs_from_prompt_to_video(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    submitted = await client.post("/v1/queue/veo-3", json={"prompt": "a reef"})
    ticket = submitted.json()
    status = await client.get(ticket["status_url"])
    result = await client.get(ticket["response_url"])
    url = result.json()["data"][0]["url"]
    video = await client.get(url)

    request_id = ticket["request_id"]
    content_id = emulator.jobs[request_id].content_id

    assert 202 == submitted.status_code
    assert {
        "request_id": request_id,
        "status": "IN_QUEUE",
        "status_url": f"{path(request_id)}/status",
        "response_url": path(request_id),
    } == ticket
    assert {"request_id": request_id, "status": "COMPLETED"} == status.json()
    assert {
        "request_id": request_id,
        "status": "COMPLETED",
        "model": "veo-3",
        "data": [{"url": f"{path(content_id)}/content/0"}],
        "usage": {
            "video_seconds": 8,
            "video_resolution": "720p",
            "video_has_audio": True,
        },
    } == result.json()
    assert content_id != request_id
    assert "video/mp4" == video.headers["content-type"]
    assert 'inline; filename="video-0.mp4"' == video.headers["content-disposition"]
    assert sample_mp4() == video.content
    assert {request_id: 1} == emulator.billed
    assert 1 == emulator.billed_total


async def test_every_request_is_counted_and_recorded(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    submitted = await client.post("/v1/queue/veo-3", json={"prompt": "a reef"})
    request_id = submitted.json()["request_id"]
    await client.get(f"{path(request_id)}/status")
    result = await client.get(path(request_id))
    url = result.json()["data"][0]["url"]
    await client.get(url)

    assert 1 == emulator.submits
    assert {request_id: 1} == emulator.polls
    assert {request_id: 1} == emulator.result_calls
    assert {request_id: 1} == emulator.contents
    seen = [(r.endpoint, r.method, r.raw_path, r.request_id) for r in emulator.requests]
    assert [
        ("submit", "POST", "/v1/queue/veo-3", None),
        ("status", "GET", f"{path(request_id)}/status", request_id),
        ("result", "GET", path(request_id), request_id),
        ("content", "GET", url, request_id),
    ] == seen
    first = emulator.requests[0]

    assert {"prompt": "a reef"} == json.loads(first.body)
    assert "Bearer sk-emulator" == first.headers["authorization"]
    assert first.at <= asyncio.get_running_loop().time()
    assert "sk-emulator" not in repr(emulator.requests)
    assert "<Emulator jobs=1 billed=1 in_flight=0>" == repr(emulator)


async def test_recording_can_be_turned_off() -> None:
    emulator = Emulator(record=False)
    async with httpx.AsyncClient(transport=emulator.transport()) as client:
        await client.get("http://emulator/v1/config")

    assert [] == emulator.requests


async def test_repeated_header_fields_are_joined(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    await client.get("/v1/config", headers=[("x-a", "1"), ("X-A", "2")])

    assert "1, 2" == emulator.requests[0].headers["x-a"]


async def test_job_changes_status_over_time_and_is_billed_only_when_completed(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    request_id = emulator.add_job(script=JobScript(queue_seconds=0.4, run_seconds=0.4))
    words = []
    for _ in range(3):
        status = (await client.get(f"{path(request_id)}/status")).json()["status"]
        result = (await client.get(path(request_id))).json()["status"]
        words.append((status, result, emulator.billed_total))
        await asyncio.sleep(0.5)

    assert [
        ("IN_QUEUE", "IN_QUEUE", 0),
        ("IN_PROGRESS", "IN_PROGRESS", 0),
        ("COMPLETED", "COMPLETED", 1),
    ] == words


async def test_failed_job_has_an_error_and_is_never_billed(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    request_id = emulator.add_job("one", script=JobScript(outcome="FAILED", error="unsafe"))
    status = await client.get(f"{path('one')}/status")
    result = await client.get(path("one"))

    document = {"request_id": "one", "status": "FAILED", "error": "unsafe"}

    assert "one" == request_id
    assert document == status.json()
    assert {**document, "model": "veo-3"} == result.json()
    assert 0 == emulator.billed_total


async def test_every_completed_result_call_is_billed(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.add_job("one")
    for _ in range(3):
        await client.get(path("one"))

    assert {"one": 3} == emulator.billed


async def test_result_lags_behind_the_status(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.add_job("one", script=JobScript(lag_polls=2))
    status = (await client.get(f"{path('one')}/status")).json()["status"]
    results = [(await client.get(path("one"))).json()["status"] for _ in range(3)]

    assert "COMPLETED" == status
    assert ["IN_PROGRESS", "IN_PROGRESS", "COMPLETED"] == results
    assert 1 == emulator.billed_total


async def test_each_poll_gets_the_next_scripted_status_and_the_result_repeats_it(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    script = JobScript(statuses=("IN_QUEUE", "THROTTLED", "COMPLETED"))
    emulator.add_job("one", script=script)
    words = []
    for _ in range(4):
        status = (await client.get(f"{path('one')}/status")).json()["status"]
        words.append((status, (await client.get(path("one"))).json()["status"]))

    assert [
        ("IN_QUEUE", "IN_QUEUE"),
        ("THROTTLED", "THROTTLED"),
        ("COMPLETED", "COMPLETED"),
        ("COMPLETED", "COMPLETED"),
    ] == words
    assert 2 == emulator.billed_total


async def test_polling_the_result_alone_steps_through_the_scripted_statuses(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    """The vendor's Node client does that, and does not encode the id in the path."""
    emulator.script(JobScript(statuses=("IN_QUEUE", "IN_PROGRESS", "COMPLETED")))
    body = {"prompt": "x", "parameters": {"durationSeconds": 4, "generateAudio": False}}
    submitted = await client.post("/v1/queue/veo-3.1", json=body)
    request_id = submitted.json()["request_id"]
    answers = [
        (await client.get(f"/v1/queue/veo-3.1/requests/{request_id}")).json() for _ in range(3)
    ]
    video = await client.get(answers[-1]["data"][0]["url"])

    assert [
        "IN_QUEUE",
        "IN_PROGRESS",
        "COMPLETED",
    ] == [answer["status"] for answer in answers]
    assert {"request_id": request_id, "status": "IN_QUEUE", "model": "veo-3.1"} == answers[0]
    assert {
        "video_seconds": 4,
        "video_resolution": "720p",
        "video_has_audio": False,
    } == answers[-1]["usage"]
    assert sample_mp4() == video.content
    assert 1 == emulator.billed_total


async def test_scripts_apply_to_the_next_submits_in_order(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.script(JobScript(outcome="FAILED"), SLOW)
    words = []
    for _ in range(3):
        ticket = (await client.post("/v1/queue/veo-3", json={"prompt": "x"})).json()
        words.append((await client.get(ticket["status_url"])).json()["status"])

    assert ["FAILED", "IN_QUEUE", "COMPLETED"] == words


async def test_script_replaces_parts_of_the_response(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    usage = {"video_seconds": 3}
    emulator.script(JobScript(data=[], usage=usage, extra={"eta": 1}))
    ticket = (await client.post("/v1/queue/veo-3", json={"prompt": "x"})).json()
    status = (await client.get(ticket["status_url"])).json()
    result = (await client.get(ticket["response_url"])).json()

    assert [1, 1, 1] == [ticket["eta"], status["eta"], result["eta"]]
    assert [] == result["data"]
    assert usage == result["usage"]


@pytest.mark.parametrize(("videos", "expected"), [(None, 3), (2, 2)])
async def test_number_of_videos_is_requested_or_scripted(
    emulator: Emulator, client: httpx.AsyncClient, videos: int | None, expected: int
) -> None:
    emulator.script(JobScript(videos=videos))
    body = {"prompt": "x", "parameters": {"sample_count": 3}}
    ticket = (await client.post("/v1/queue/veo-3", json=body)).json()
    data = (await client.get(ticket["response_url"])).json()["data"]
    last = await client.get(data[-1]["url"])
    beyond = await client.get(data[-1]["url"][:-1] + str(expected))

    assert expected == len(data)
    assert last.headers["content-disposition"].endswith(f'"video-{expected - 1}.mp4"')
    assert 400 == beyond.status_code
    assert failure("bad_request", "invalid index") == beyond.json()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{not json",
        b"\xff",
        b"[]",
        b"{}",
        b'{"prompt": ""}',
        b'{"prompt": 1}',
        b'{"prompt": "x", "parameters": []}',
        b'{"prompt": "x", "parameters": {"duration_seconds": 9}}',
        b'{"prompt": "x", "parameters": {"duration_seconds": 0}}',
        b'{"prompt": "x", "parameters": {"duration_seconds": "8"}}',
        b'{"prompt": "x", "parameters": {"duration_seconds": true}}',
        b'{"prompt": "x", "parameters": {"sample_count": 0}}',
        b'{"prompt": "x", "parameters": {"sample_count": 5}}',
        b'{"prompt": "x", "parameters": {"resolution": "8k"}}',
        b'{"prompt": "x", "parameters": {"aspect_ratio": "1:1"}}',
        b'{"prompt": "x", "parameters": {"generate_audio": "yes"}}',
        b'{"prompt": "x", "parameters": {"negative_prompt": 1}}',
        b'{"prompt": "x", "parameters": {"image": 1}}',
    ],
)
async def test_submit_that_breaks_a_documented_rule_is_a_400(
    emulator: Emulator, client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.post("/v1/queue/veo-3", content=body)

    assert 400 == answer.status_code
    assert "bad_request" == answer.json()["error"]["type"]
    assert {} == emulator.jobs


@pytest.mark.parametrize(
    "parameters",
    [
        None,
        {},
        {"duration_seconds": 8, "sample_count": 4, "resolution": "4k"},
        {"aspect_ratio": "9:16", "generate_audio": False, "negative_prompt": "rain"},
        {"aspectRatio": "1:1", "durationSeconds": 99, "startImageUrl": "x", "new": [1]},
    ],
)
async def test_submit_with_documented_or_unknown_parameters_is_accepted(
    client: httpx.AsyncClient, parameters: dict[str, Any] | None
) -> None:
    body = {"prompt": "x", "parameters": parameters, "webhook": "y"}
    answer = await client.post("/v1/queue/veo-3-fast", json=body)

    assert 202 == answer.status_code


async def test_submit_to_a_model_without_videos_is_a_400(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/queue/gpt-9", json={"prompt": "x"})

    assert 400 == answer.status_code
    message = "model 'gpt-9' is not a video model"

    assert failure("bad_request", message) == answer.json()


@pytest.mark.parametrize("suffix", ["", "/status", "/content/0"])
async def test_unknown_id_and_wrong_model_are_refused(
    emulator: Emulator, client: httpx.AsyncClient, suffix: str
) -> None:
    emulator.add_job("one")
    known = "one" if suffix != "/content/0" else emulator.jobs["one"].content_id
    unknown = await client.get(path("two") + suffix)
    mismatch = await client.get(path(known, "veo-3.1") + suffix)

    assert (400, 400) == (unknown.status_code, mismatch.status_code)
    assert failure("bad_request", "invalid request id") == unknown.json()
    assert failure("bad_request", "provider mismatch") == mismatch.json()
    assert 0 == emulator.billed_total


@pytest.mark.parametrize("sent", [None, "Bearer sk-other", "sk-emulator", "Bearer "])
@pytest.mark.parametrize("suffix", ["", "/status", "/content/0"])
async def test_wrong_key_is_a_401_and_bills_nothing(
    emulator: Emulator, sent: str | None, suffix: str
) -> None:
    emulator.add_job("one")
    headers = {} if sent is None else {"authorization": sent}
    async with httpx.AsyncClient(transport=emulator.transport(), headers=headers) as client:
        answer = await client.get(f"http://emulator{path('one')}{suffix}")

    assert 401 == answer.status_code
    assert failure("unauthorized", "missing or invalid API key") == answer.json()
    assert 0 == emulator.billed_total


async def test_empty_account_is_refused_but_can_read_its_balance(
    emulator: Emulator, client: httpx.AsyncClient
) -> None:
    emulator.add_job("one")
    emulator.balance = 0.0
    refused = await client.get(path("one"))
    config = await client.get("/v1/config")
    emulator.balance = 5.0
    accepted = await client.get(path("one"))

    assert 402 == refused.status_code
    assert failure("insufficient_balance", "insufficient balance") == refused.json()
    assert {"balance": 0.0} == config.json()
    assert "COMPLETED" == accepted.json()["status"]
    assert {"one": 1} == emulator.billed


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/v1/queue/veo-3"),
        ("POST", "/v1/queue/veo-3/requests/one"),
        ("DELETE", "/v1/queue/veo-3/requests/one"),
        ("POST", "/v1/config"),
        ("GET", "/v1/queue/veo-3/requests"),
    ],
)
async def test_other_paths_and_methods_are_a_404(
    emulator: Emulator, client: httpx.AsyncClient, method: str, target: str
) -> None:
    answer = await client.request(method, target)

    assert 404 == answer.status_code
    assert failure("not_found", "no such endpoint") == answer.json()
    assert "unknown" == emulator.requests[0].endpoint


async def test_base_path_is_part_of_every_url() -> None:
    emulator = Emulator(base_path="/proxy/")
    async with httpx.AsyncClient(
        transport=emulator.transport(), base_url="http://emulator", headers=KEY
    ) as client:
        ticket = (await client.post("/proxy/v1/queue/veo-3", json={"prompt": "x"})).json()
        result = (await client.get(ticket["response_url"])).json()
        video = await client.get(result["data"][0]["url"])
        outside = await client.get("/v1/config")

    assert ticket["status_url"].startswith("/proxy/v1/queue/veo-3/requests/")
    assert sample_mp4() == video.content
    assert 404 == outside.status_code


@given(st.text(min_size=1, alphabet=st.characters(codec="utf-8")))
def test_any_id_round_trips_through_the_path(request_id: str) -> None:
    found = route("GET", path(request_id) + "/status")

    assert Route("status", "veo-3", request_id) == found


def test_ids_look_like_base64_and_are_reproducible() -> None:
    first, second = Emulator(seed=7), Emulator(seed=7)
    ids = [first.add_job() for _ in range(100)]

    assert ids == [second.add_job() for _ in range(100)]
    assert 100 == len(set(ids))
    assert {"=", "+", "/"} <= set("".join(ids))


def test_duplicate_request_id_is_refused(emulator: Emulator) -> None:
    emulator.add_job("one")

    with pytest.raises(ValueError, match="'one' already belongs to a job"):
        emulator.add_job("one")


async def test_clock_of_a_job_added_outside_an_event_loop_starts_with_its_first_request() -> (
    None
):
    emulator = Emulator()
    request_id = await asyncio.to_thread(emulator.add_job, script=SLOW)
    await asyncio.sleep(0.05)
    async with httpx.AsyncClient(transport=emulator.transport(), headers=KEY) as client:
        answer = await client.get(f"http://emulator{path(request_id)}/status")

    assert "IN_QUEUE" == answer.json()["status"]


def test_sample_is_a_playable_video_of_one_second() -> None:
    with av.open(io.BytesIO(sample_mp4()), "r") as container:
        duration = (container.duration or 0) / 1_000_000
        frames = list(container.decode(video=0))

    assert 24 == len(frames)
    assert pytest.approx(1.0, abs=0.05) == duration
    assert (160, 90) == (frames[0].width, frames[0].height)
    assert bytes(frames[0].planes[0]) != bytes(frames[-1].planes[0])
    assert len(sample_mp4()) < 20_000


def test_public_names_are_sorted_and_exist() -> None:
    assert sorted(package.__all__) == package.__all__
    assert all(hasattr(package, name) for name in package.__all__)


async def test_foreign_asgi_transport_without_raw_path_works(emulator: Emulator) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await emulator.app({**scope, "raw_path": None}, receive, send)

    emulator.add_job("a=%41 b")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, headers=KEY) as client:
        answer = await client.get(f"http://emulator{path('a=%41 b')}/status")

    assert {"request_id": "a=%41 b", "status": "COMPLETED"} == answer.json()


async def test_only_http_is_supported(emulator: Emulator) -> None:
    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        raise AssertionError

    with pytest.raises(NotImplementedError, match="HTTP only"):
        await emulator.app({"type": "lifespan"}, receive, send)


async def test_incomplete_request_is_not_counted(emulator: Emulator) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError

    await emulator.app({"type": "http"}, receive, send)

    assert [] == messages
    assert [] == emulator.requests
    assert (0, 1) == (emulator.in_flight, emulator.max_in_flight_seen)


async def test_socket_serves_many_requests_on_one_connection(emulator: Emulator) -> None:
    request_id = emulator.add_job()
    peers = []
    async with emulator.serve() as url, httpx.AsyncClient(headers=KEY) as client:
        for _ in range(3):
            async with client.stream("GET", f"{url}{path(request_id)}/status") as answer:
                peers.append(answer.extensions["network_stream"].get_extra_info("client_addr"))
                await answer.aread()
                word = answer.json()["status"]

    assert url.startswith("http://127.0.0.1:")
    assert "COMPLETED" == word
    assert 1 == len(set(peers))
    assert f"{path(request_id)}/status" == emulator.requests[0].raw_path
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


async def test_concurrent_requests_are_counted(emulator: Emulator) -> None:
    fault = package.Fault.hang(0.05)
    emulator.fault("status", fault, times=None)
    emulator.add_job("one")
    async with emulator.serve() as url, httpx.AsyncClient(headers=KEY) as client:
        calls = [client.get(f"{url}{path('one')}/status") for _ in range(5)]
        await asyncio.gather(*calls)

    assert 5 == emulator.max_in_flight_seen
    assert 0 == emulator.in_flight


async def test_malformed_request_gets_a_400_and_no_log_record(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulator.serve() as url:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"no http at all\r\n\r\n")
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()

    assert b"HTTP/1.1 400 Bad Request\r\n" == line
    assert [] == caplog.records


async def test_socket_supports_tls(
    emulator: Emulator, made_certificate: tuple[str, str]
) -> None:
    certificate, key = made_certificate
    emulator.add_job("one")
    emulator.fault("result", package.Fault.truncate(3))
    async with (
        emulator.serve(ssl_certfile=certificate, ssl_keyfile=key) as url,
        httpx.AsyncClient(headers=KEY, verify=False) as client,  # noqa: S501 - the certificate is made by the test
    ):
        answer = await client.get(f"{url}{path('one')}/status")
        with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
            await client.get(f"{url}{path('one')}")

    assert url.startswith("https://")
    assert "COMPLETED" == answer.json()["status"]


def test_process_prints_its_url_and_stops_on_a_signal() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "modelmax_async.emulator"]
    process = subprocess.Popen(  # noqa: S603 - the command is made by the test
        [*command, "--port", "0", "--seconds", "0", "--key", "sk-x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = httpx.post(
            f"{url}/v1/queue/veo-3",
            json={"prompt": "x"},
            headers={"authorization": "Bearer sk-x"},
        )
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
        process.wait()

    assert 202 == answer.status_code
    assert (0, "") == (process.returncode, err)
    assert out.startswith("jobs: 1 (1 completed, 0 failed, 0 not ended)\n")


def test_help_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    main = import_module("modelmax_async.emulator.__main__").main
    with pytest.raises(SystemExit):
        main(["--help"])

    words = set(capsys.readouterr().out.split())

    assert {"--host", "--port", "--seconds", "--key", "--fail-rate", "--seed"} <= words


def test_module_runs_until_terminated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "modelmax_async.emulator.__main__", raising=False)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(sys, "argv", ["emulator"])
    printed = threading.Event()
    monkeypatch.setattr(sys.stdout, "flush", printed.set, raising=False)

    def stop() -> None:
        printed.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=stop)
    killer.start()
    with contextlib.suppress(SystemExit):
        runpy.run_module("modelmax_async.emulator", run_name="__main__")
    killer.join()

    assert capsys.readouterr().out.startswith("http://127.0.0.1:")
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    assert handlers == after


def test_size_of_generated_content_has_a_minimum() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        Content(size=31)
