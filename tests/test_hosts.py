"""Messages name the host that a request was for, and nothing secret of its URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from strategies import envelope, reply
from support import KEY, in_process, in_virtual_time, result_of

from modelmax_async import (
    APIError,
    AsyncQueueClient,
    AuthenticationError,
    DownloadError,
    InvalidResponseError,
    ModelMaxError,
    ResultUncertainError,
    RetryPolicy,
    SubmitUncertainError,
    TransportError,
)
from modelmax_async._settings import host_of
from modelmax_async.emulator import Emulator, Fault

ONCE = RetryPolicy(attempts=1, give_up_after=0.1)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://api.modelmax.io", "api.modelmax.io"),
        ("https://api.modelmax.io:443/v1", "api.modelmax.io"),
        ("https://API.modelmax.io:8443/v1", "api.modelmax.io:8443"),
        ("http://127.0.0.1:80", "127.0.0.1"),
        ("http://127.0.0.1:443", "127.0.0.1:443"),
        ("http://[::1]:9", "[::1]:9"),
        ("https://cdn.example/v.mp4?sig=secret#part", "cdn.example"),
        ("https://user:secret@cdn.example/v.mp4", "cdn.example"),
    ],
)
def test_host_is_shown_without_what_is_usual_or_secret(url: str, host: str) -> None:
    assert host == host_of(url)


def mocked(answer: httpx.Response | Exception, **options: Any) -> AsyncQueueClient:
    """A client of another host, whose every request gets the same response or error."""

    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    defaults: dict[str, Any] = {"model": "veo-3", "retry": ONCE, "api_key": KEY}
    base_url = "https://films.example:8443/api"
    transport = httpx.MockTransport(handle)
    return AsyncQueueClient(base_url=base_url, http_client=transport, **(defaults | options))


def _answer(status: int) -> httpx.Response:
    content = reply(status, envelope("a_type", "words")).body
    return httpx.Response(status, content=content)


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("call", ["submit", "status", "result", "wait_for"])
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 429, 502, 503])
async def test_refusals_name_the_host(call: str, status: int) -> None:
    async with mocked(_answer(status)) as client:
        with pytest.raises(APIError) as caught:
            await getattr(client, call)("reef")

    assert "films.example:8443" == caught.value.host
    assert str(caught.value).startswith(f"HTTP {status} a_type from films.example:8443")


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("call", ["submit", "status", "result", "wait_for"])
@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("[Errno -2] Name or service not known"),
        httpx.ConnectError("All connection attempts failed"),
        httpx.ConnectTimeout("timed out"),
    ],
)
async def test_connections_that_fail_name_the_host(call: str, error: Exception) -> None:
    async with mocked(error) as client:
        with pytest.raises(TransportError) as caught:
            await getattr(client, call)("reef")

    assert "films.example:8443" == caught.value.host
    assert str(caught.value).startswith("the request to films.example:8443 ")
    assert not caught.value.maybe_sent


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize(
    ("answer", "call", "kind", "words"),
    [
        (httpx.Response(200, content=b"<html>"), "status", InvalidResponseError, "JSONDecode"),
        (httpx.Response(302), "status", InvalidResponseError, "unexpected HTTP 302 from films"),
        (httpx.Response(200, content=b"{}"), "status", InvalidResponseError, "response from f"),
        (httpx.Response(202, content=b"{}"), "submit", SubmitUncertainError, "response from f"),
        (httpx.ReadError("reset"), "submit", SubmitUncertainError, "the request to films"),
        (httpx.ReadError("reset"), "result", ResultUncertainError, "the request to films"),
        (httpx.Response(500), "result", ResultUncertainError, "HTTP 500 from films.example"),
    ],
)
async def test_responses_that_are_not_understood_name_the_host(
    answer: httpx.Response | Exception, call: str, kind: type[ModelMaxError], words: str
) -> None:
    async with mocked(answer) as client:
        with pytest.raises(kind) as caught:
            await getattr(client, call)("reef")

    assert words in str(caught.value)
    assert "films.example:8443" in str(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("port", ["127.0.0.1:9", "nowhere.invalid"])
async def test_own_connections_name_the_host(port: str) -> None:
    base_url = f"https://{port}"
    async with AsyncQueueClient(
        api_key=KEY, base_url=base_url, model="veo-3", retry=ONCE
    ) as client:
        with pytest.raises(TransportError, match=f"the request to {port} for job reef was not"):
            await client.status("reef")
        with pytest.raises(TransportError, match=f"the request to {port} was not sent"):
            await client.submit("a reef")


@pytest.mark.anyio
@in_virtual_time
async def test_rejected_key_names_the_host_and_not_the_key(emulator: Emulator) -> None:
    async with in_process(emulator, api_key="sk-of-another-account") as client:
        with pytest.raises(
            AuthenticationError, match=r"^HTTP 401 unauthorized from 127.0.0.1"
        ) as caught:
            await client.submit("a reef")

    assert "sk-of" not in str(caught.value)


@pytest.mark.anyio
@in_virtual_time
@pytest.mark.parametrize("answer", [_answer(502), httpx.ConnectError("refused")])
async def test_download_names_the_host_of_the_video_without_its_signature(
    tmp_path: Path, answer: httpx.Response | Exception
) -> None:
    result = result_of("https://cdn.example/v.mp4?signature=secret")
    async with mocked(answer) as client:
        with pytest.raises(DownloadError) as caught:
            await client.download(result, tmp_path)

    cause = caught.value.__cause__
    assert isinstance(cause, APIError | TransportError)
    assert "cdn.example" == cause.host
    assert "cdn.example" in str(caught.value)
    assert "secret" not in f"{caught.value} {cause}"


@pytest.mark.anyio
@in_virtual_time
async def test_broken_body_of_a_video_names_the_host(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault("content", Fault.truncate(1000), times=99)
    async with in_process(emulator, retry=ONCE) as client:
        result = await client.generate("a reef")
        with pytest.raises(DownloadError, match=r"the request to 127\.0\.0\.1 may have"):
            await client.download(result, tmp_path)
