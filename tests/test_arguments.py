"""Arguments are checked before any I/O."""

from __future__ import annotations

from typing import Any

import pytest
from support import KEY, in_process, in_virtual_time, on_socket

from modelmax_async import AsyncQueueClient, ConfigurationError, Job, MemoryLedger
from modelmax_async._api.paths import make_job
from modelmax_async.emulator import Emulator

pytestmark = pytest.mark.anyio
HOSTILE = ["", ".", "..", "a\nb", "a\x00b", "\x7f", "x" * 4097, "\ud800"]


@in_virtual_time
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

    assert [] == emulator.requests


@in_virtual_time
@pytest.mark.parametrize("model", ["", "..", "a\tb"])
async def test_hostile_models_are_refused_before_any_io(emulator: Emulator, model: str) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="model"):
            await client.submit("a reef", model=model)
        with pytest.raises(ValueError, match="model"):
            await client.wait_for("x", model=model)

    assert [] == emulator.requests


@in_virtual_time
@pytest.mark.parametrize("prompt", ["", "  \n", None, 5])
async def test_prompt_without_text_is_refused_before_any_io(
    emulator: Emulator, prompt: Any
) -> None:
    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="prompt"):
            await client.submit(prompt)

    assert [] == emulator.requests


@in_virtual_time
async def test_parameters_of_another_kind_are_refused_before_any_io(emulator: Emulator) -> None:
    wrong: Any = {"resolution": "720p"}

    async with in_process(emulator) as client:
        with pytest.raises(ValueError, match="VideoParameters"):
            await client.submit("a reef", parameters=wrong)

    assert [] == emulator.requests


@in_virtual_time
async def test_bare_id_without_a_model_says_what_is_missing(emulator: Emulator) -> None:
    async with in_process(emulator, model=None) as client:
        with pytest.raises(ConfigurationError, match="no model: pass model="):
            await client.wait_for("x")
        job = await client.submit("a reef", model="veo-3-fast")
        result = await client.wait_for(job)

    assert "veo-3-fast" == result.model


@in_virtual_time
@pytest.mark.parametrize("timeout", [-1, float("nan"), "5", True])
async def test_unusable_timeout_is_refused_before_any_io(
    emulator: Emulator, timeout: Any
) -> None:
    async with in_process(emulator) as client:
        for call in (client.wait_for, client.generate):
            with pytest.raises(ValueError, match="timeout"):
                await call("x", timeout=timeout)

    assert [] == emulator.requests


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


@in_virtual_time
@pytest.mark.parametrize("path", ["", "/v1/queue/veo-3/requests/x", "//evil.example/status"])
async def test_status_path_that_could_bill_is_never_polled(
    emulator: Emulator, path: str
) -> None:
    request_id = emulator.add_job("x")
    job = Job("veo-3", request_id, path, "@evil.example/")

    async with in_process(emulator) as client:
        await client.wait_for(job)

    assert ["status", "result"] == [received.endpoint for received in emulator.requests]


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


def test_insecure_base_url_is_accepted_with_allow_insecure() -> None:
    client = AsyncQueueClient(
        api_key=KEY, base_url="http://gateway.internal", allow_insecure=True
    )

    assert "http://gateway.internal:80" in repr(client)
    assert KEY not in repr(client)
