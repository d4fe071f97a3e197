"""The routes for respx: a local ModelMax answers them, under either mocker of respx."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import respx
from support import FAST, STEADY

from modelmax_async import (
    AsyncQueueClient,
    InsufficientBalanceError,
    ResultUncertainError,
)
from modelmax_async.emulator import sample_mp4
from modelmax_async.testing import Fault, JobScript, ModelMax, queue_routes

pytestmark = pytest.mark.anyio
each_mocker = pytest.mark.parametrize("using", ["httpcore", "httpx"])


def client_of_the_app(**options: object) -> AsyncQueueClient:
    """A client with a key of its own, as the code under test makes it."""
    given: dict[str, object] = {"api_key": "sk-app", "model": "veo-3", "poll": FAST}
    return AsyncQueueClient(**(given | options))  # type: ignore[arg-type]  # of several kinds


@each_mocker
@pytest.mark.parametrize(
    "url", ["https://api.modelmax.io", "https://gateway.test/proxy/", "http://127.0.0.1:8080"]
)
async def test_each_endpoint_is_a_route(using: str, url: str, tmp_path: Path) -> None:
    with respx.mock(base_url=url, using=using) as router:
        routes = queue_routes(router, base_url=url)
        async with client_of_the_app(base_url=url) as client:
            result = await client.generate("a reef")
            (path,) = await client.download(result, tmp_path)

    routes.modelmax.assert_billed_once(result)
    assert sample_mp4() == path.read_bytes()
    assert [1, 1, 1] == [
        route.call_count for route in (routes.submit, routes.result, routes.content)
    ]
    assert routes.status.called


@each_mocker
async def test_faults_reach_the_client(using: str) -> None:
    with respx.mock(using=using, assert_all_called=False) as router:
        routes = queue_routes(router)
        routes.modelmax.fault("status", Fault.drop_before())
        routes.modelmax.fault("result", Fault.drop_after())
        async with client_of_the_app() as client:
            job = await client.submit("a reef")
            with pytest.raises(ResultUncertainError):
                await client.wait_for(job)

    routes.modelmax.assert_billed_once(job)
    assert 1 == routes.result.call_count


@each_mocker
async def test_compressed_response_is_passed_on_as_it_is(using: str) -> None:
    with respx.mock(using=using, assert_all_called=False) as router:
        routes = queue_routes(router)
        routes.modelmax.fault("result", Fault.gzip())
        async with client_of_the_app() as client:
            routes.modelmax.assert_billed_once(await client.generate("a reef"))


@pytest.mark.virtual_time
async def test_routes_work_in_virtual_time(respx_mock: respx.MockRouter) -> None:
    routes = queue_routes(respx_mock)
    routes.modelmax.script(JobScript(run_seconds=600))
    async with client_of_the_app(poll=STEADY) as client:
        routes.modelmax.assert_billed_once(await client.generate("a reef"))


async def test_route_can_be_changed(respx_mock: respx.MockRouter, modelmax: ModelMax) -> None:
    routes = queue_routes(respx_mock, modelmax)
    error = {"type": "insufficient_balance", "message": "top up"}
    routes.submit.respond(402, json={"error": error})
    async with client_of_the_app() as client:
        with pytest.raises(InsufficientBalanceError):
            await client.submit("a reef")

    assert modelmax is routes.modelmax
    assert {} == modelmax.jobs


async def test_other_addresses_are_left_to_other_routes(respx_mock: respx.MockRouter) -> None:
    queue_routes(respx_mock)
    config = respx_mock.get("https://api.modelmax.io/v1/config").respond(json={"balance": 1})
    elsewhere = respx_mock.post("https://other.test/v1/queue/veo-3").respond(204)
    async with httpx.AsyncClient() as http:
        await http.get("https://api.modelmax.io/v1/config")
        await http.post("https://other.test/v1/queue/veo-3")

    assert config.called
    assert elsewhere.called
