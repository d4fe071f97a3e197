"""A video whose URL quotes the key is fetched, and only the API's own origin gets the key."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import httpx
import pytest
from download_support import PATH, SAMPLE, SOON, url_of
from raw_server import answer, raw_server
from support import KEY, on_socket, result_of

from modelmax_async import DownloadError, Result, SQLiteLedger
from modelmax_async._api_key import ApiKey

pytestmark = pytest.mark.anyio

DONE = answer(b'{"request_id": "reef", "status": "COMPLETED"}')
VIDEO = answer(SAMPLE, "content-type: video/mp4")
BASE = "https://api.example"
ELSEWHERE = "https://1.1.1.1/v.mp4"


async def test_paid_video_is_downloaded_although_its_url_is_stored_without_the_key(
    tmp_path: Path,
) -> None:
    data = [{"url": f"{PATH}?sig={KEY}"}]
    paid = {"request_id": "reef", "status": "COMPLETED", "data": data}
    async with (
        raw_server(DONE, answer(json.dumps(paid).encode()), VIDEO) as server,
        on_socket(url_of(server), ledger=SQLiteLedger(tmp_path / "runs.db")) as client,
    ):
        result = await client.wait_for("reef")
        assert isinstance(result, Result)
        (path,) = await client.download(result, tmp_path)

    assert f"{PATH}?sig=sk-..." == result.videos[0].url
    assert f"GET {PATH}?sig={KEY} HTTP/1.1" == server.asked[-1][""]
    assert SAMPLE == path.read_bytes()
    assert KEY.encode() not in pickle.dumps(result)


async def test_redirect_within_the_api_may_quote_the_key_too(tmp_path: Path) -> None:
    asked: list[str] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if len(asked) == 1:
            return httpx.Response(302, headers={"location": f"v2/x?sig={KEY}&a"})
        return httpx.Response(200, content=SAMPLE, headers={"content-type": "video/mp4"})

    async with on_socket(BASE, http_client=httpx.MockTransport(reply)) as client:
        await client.download(result_of("/files/v?sig=sk-..."), tmp_path)

    assert [f"{BASE}/files/v?sig={KEY}", f"{BASE}/files/v2/x?sig={KEY}&a"] == asked


@pytest.mark.parametrize("first", [f"{ELSEWHERE}?sig=sk-...", "/v?sig=sk-..."])
async def test_other_host_never_gets_the_key_in_a_url(tmp_path: Path, first: str) -> None:
    asked: list[httpx.URL] = []

    def reply(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        if request.url.host != "1.1.1.1":
            return httpx.Response(302, headers={"location": f"{ELSEWHERE}?sig={KEY}"})
        return httpx.Response(200, content=SAMPLE, headers={"content-type": "video/mp4"})

    transport = httpx.MockTransport(reply)
    async with on_socket(BASE, http_client=transport) as client:
        await client.download(result_of(first), tmp_path)

    assert f"{ELSEWHERE}?sig=sk-..." == str(asked[-1])
    assert [f"{BASE}/v?sig={KEY}"] * (len(asked) - 1) == list(map(str, asked[:-1]))


async def test_error_of_a_url_with_the_key_does_not_show_it(tmp_path: Path) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError(f"cannot read {request.url}", request=request)

    transport = httpx.MockTransport(fail)
    async with on_socket(BASE, http_client=transport, retry=SOON) as client:
        with pytest.raises(DownloadError) as caught:
            await client.download(result_of("/v?sig=sk-..."), tmp_path)

    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "url", "expected"),
    [
        ("sk-a1b2c3", "https://h/v/sk-.../0?k=sk-...", "https://h/v/sk-a1b2c3/0?k=sk-a1b2c3"),
        (
            "sk-a1+b/=",
            "https://h/v?k=sk-...&l=sk-...",
            "https://h/v?k=sk-a1%2Bb%2F%3D&l=sk-a1%2Bb%2F%3D",
        ),
        ("sk-a1+b/=", "https://h/sk-...?k", "https://h/sk-...?k"),
        ("3bsk-a1b2", "https://h/requests%sk-.../1", "https://h/requests%sk-.../1"),
        ("modelmax", "https://h/v?k=sk-...", "https://h/v?k=sk-..."),
    ],
    ids=["as it is", "encoded", "not a path's", "not in an escape", "no secret"],
)
def test_key_is_put_back_where_it_cannot_change_the_path(
    key: str, url: str, expected: str
) -> None:
    assert expected == ApiKey(key).restore_in(url)
