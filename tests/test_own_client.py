"""The `httpx.AsyncClient` that the SDK makes for itself: it sends what it is given, once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import httpx
import pytest

from modelmax_async._http.own_client import PlainClient

pytestmark = pytest.mark.anyio
URL = "http://127.0.0.1/v1/queue?signature=secret"


def client_of(handler: Callable[[httpx.Request], httpx.Response]) -> PlainClient:
    return PlainClient(httpx.MockTransport(handler))


async def test_request_is_sent_with_its_own_headers_only() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers={"set-cookie": "session=1"})

    async with client_of(answer) as client:
        for _ in range(2):
            response = await client.send(client.build_request("GET", URL, headers={"x-a": "b"}))

    assert response.request is seen[1]
    assert [{"host": "127.0.0.1", "x-a": "b"}] * 2 == [dict(each.headers) for each in seen]
    assert {} == dict(client.cookies)


@pytest.mark.parametrize("location", ["/elsewhere", "data:,", "http://[", ""])
async def test_redirect_is_a_response_like_any_other(location: str) -> None:
    """httpx's own client raises where it cannot parse the address."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(str(request.url))
        return httpx.Response(302, headers={"location": location})

    async with client_of(answer) as client:
        response = await client.send(client.build_request("GET", URL))

    assert (302, location) == (response.status_code, response.headers["location"])
    assert [URL] == sent


async def test_address_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")

    async with client_of(lambda _: httpx.Response(200)) as client:
        await client.send(client.build_request("GET", URL))

    assert "" == caplog.text


async def test_proxies_of_the_environment_are_not_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    answered = httpx.Response(200)

    async with client_of(lambda _: answered) as client:
        response = await client.send(client.build_request("GET", URL))

    assert answered is response
