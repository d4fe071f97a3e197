"""URLs that are fetched, with the key or without: redirects, ``data:`` URLs and hosts."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import httpx
import pytest
from download_support import MIB, PATH, SAMPLE, data_url, url_of
from hypothesis import given
from hypothesis import strategies as st
from raw_server import answer, raw_server
from resolver import resolving
from support import KEY, names, on_socket, result_of, transport_to

from modelmax_async import AsyncQueueClient, ConfigurationError, DownloadError, Video
from modelmax_async._api_key import ApiKey
from modelmax_async._download import sources
from modelmax_async._download.sources import (
    SourceError,
    data_type,
    decode_data,
    follow_redirect,
    shown,
    source_of,
)
from modelmax_async._settings import Settings, read_settings
from modelmax_async.emulator import Emulator

pytestmark = pytest.mark.anyio

CONTENT = "/v1/queue/veo-3/requests/abc%3D/content/0"


def settings(base_url: str = "https://api.modelmax.io") -> Settings:
    return read_settings(
        api_key=ApiKey("sk-test"),
        base_url=base_url,
        model=None,
        on_uncertain="raise",
        max_in_flight=4,
        allow_insecure=False,
        environ={},
    )


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("https://api.modelmax.io", CONTENT, f"https://api.modelmax.io{CONTENT}"),
        ("https://api.modelmax.io", "v/0.mp4", "https://api.modelmax.io/v/0.mp4"),
        ("https://h.example/p", "/v/0", "https://h.example/p/v/0"),
        ("HTTPS://h.example/p", "/v/0", "https://h.example/p/v/0"),
        ("https://h.example", "HTTPS://h.example/v", "https://h.example/v"),
        ("https://h.example", "/My%20video;v=2.mp4", "https://h.example/My%20video;v=2.mp4"),
        ("https://h.example", f"{CONTENT}?a=;b", f"https://h.example{CONTENT}?a=;b"),
        (
            "https://h.example",
            "/v1/queue/m/requests/a%2fb+c%3D/content/1",
            "https://h.example/v1/queue/m/requests/a%2fb+c%3D/content/1",
        ),
        ("https://h.example/p", "/p/v/0", "https://h.example/p/v/0"),
        ("https://h.example", "https://H.example.:443/v#x", "https://H.example.:443/v"),
        ("http://127.0.0.1:80", "http://127.0.0.1/v?a=b", "http://127.0.0.1/v?a=b"),
    ],
)
def test_key_is_sent_to_the_base_urls_origin(base: str, url: str, expected: str) -> None:
    source = source_of(url, settings(base))

    assert source.keyed
    assert expected == source.url


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/v.mp4?sig=1",
        "//cdn.example/v.mp4",
        "https://api.modelmax.io:8443/v.mp4",
        "https://api.modelmax.io.evil.example/v.mp4",
        "https://93.184.216.34/v.mp4",
        "https://[2606:2800:220:1::1]/v.mp4",
    ],
)
def test_other_hosts_are_fetched_without_the_key(url: str) -> None:
    source = source_of(url, settings())

    assert not source.keyed
    assert "sig=1" not in repr(source)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://cdn.example/v.mp4",
        "http://api.modelmax.io/v.mp4",
        "file:///etc/passwd",
        "ftp://cdn.example/v.mp4",
        "javascript:alert(1)",
        "http:///v.mp4",
        "https://[::1",
        "https://cdn.example:port/v.mp4",
        "https://user:secret@cdn.example/v.mp4",
        "https://secret@api.modelmax.io/v.mp4",
        "https://api.modelmax.io\\@evil.example/v",
        "https://cdn.example/\r\nauthorization: x",
        "https://cdn.example/ä",
        "https://cdn.example/" + "x" * 20_000,
        "https://localhost/v",
        "https://x.localhost/v",
        "https://127.0.0.1/v",
        "https://127.1/v",
        "https://2130706433/v",
        "https://0x7f.0.0.0x1/v",
        "https://10.0.0.1/v",
        "https://192.168.1.1./v",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1/v",
        "https://0.0.0.0/v",
        "https://224.0.0.1/v",
        "https://[::1]/v",
        "https://[fe80::1%25eth0]/v",
        "https://[fd00::1]/v",
        "https://[::ffff:10.0.0.1]/v",
        "https://[64:ff9b::7f00:1]/v",
        "https://[2002:7f00:1::]/v",
        "https://[fec0::1]/v",
        "https://[::7f00:1]/v",
        "https://[64:ff9b:1::7f00:1]/v",
        "https://[::ffff:127.0.0.1]/v",
        "https://localhost./v",
        "https://ip6-localhost/v",
        "https://ip6-loopback/v",
        "https://xn--zzzz.example/v",
        "https://xn--a/v",
        "https://256.1.1.1/v",
        "https://[v1.a]/v",
    ],
)
def test_forbidden_url_is_refused(url: str) -> None:
    with pytest.raises(SourceError) as caught:
        source_of(url, settings())

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/queue/veo-3/requests/abc",
        "/v1/queue/veo-3/requests/abc/",
        "/v1/queue/veo-3/requests/content/abc",
        "/v1//queue/veo-3/requests/abc?content/0",
        "/v1/queue/veo-3/requests/abc%2Fcontent%2F0",
        "/v1/Queue/veo-3%2Frequests%2Fabc",
        "/v1/queue/veo-3/requests/x/content/0/../..",
        "/v1/queue/veo-3/requests/x/%2e%2E/content/0",
    ],
)
def test_billed_endpoint_is_never_fetched_as_a_video(path: str) -> None:
    try:
        found = source_of(path, settings())
    except SourceError:
        return

    assert re.search("/content/[0-9]+$", found.url)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/queue/veo-3/requests/abc;x=y",
        "/v1/queue/veo-3/requests;x=y/abc",
        "/v1/queue/veo-3/requests/abc;/content/0",
        "/v1/queue/veo-3/requests/abc%3B/content/0",
        "/v1/queue/veo-3/requests/abc%3F/content/0",
        "/v1/queue/veo-3/requests/abc%23/content/0",
        "/v1/queue/veo-3/requests/abc%00/content/0",
        "/v1/queue/veo-3/requests/abc%20/content/0",
        "/v1/queue/veo-3/requests/abc%5C/content/0",
        "/v1/queue/veo-3/requests%20/abc",
        "/v1/queue/veo-3/requests%00/abc",
        "/v1%5Cqueue%5Cveo-3%5Crequests%5Cabc",
        "/v1/%71ueue/veo-3/requests/abc",
        "/v1/%2571ueue/veo-3/%25252572equests/abc",
        "/v1/queue/veo-3/%72equests/abc/content/0",
        "/v1/queue/veo-3/requests/x/content/0/%252e%252e/%252e%252e",
    ],
)
def test_path_that_a_gateway_may_read_as_a_billed_one_is_refused(path: str) -> None:
    for url in (path, f"https://api.modelmax.io{path}"):
        with pytest.raises(SourceError, match=r"may be billed|\.\. segments"):
            source_of(url, settings())


def test_redirect_is_checked_anew() -> None:
    home = source_of(CONTENT, settings())
    away = follow_redirect(home, "https://cdn.example/v", settings())
    back = follow_redirect(away, f"https://api.modelmax.io{CONTENT}", settings())

    assert not away.keyed
    assert not follow_redirect(away, "/w", settings()).keyed
    assert back.keyed
    for location in ("", "http://cdn.example/v", "file:///etc/passwd", "data:video/mp4,x"):
        with pytest.raises(SourceError):
            follow_redirect(away, location, settings())
    with pytest.raises(SourceError):
        follow_redirect(away, "https://api.modelmax.io/v1/queue/veo-3/requests/abc", settings())


def test_redirect_from_https_to_http_is_refused_for_a_local_base() -> None:
    local = settings("http://127.0.0.1:8000")
    away = source_of("https://cdn.example/v", local)

    with pytest.raises(SourceError, match="from https to http"):
        follow_redirect(away, "http://127.0.0.1:8000/v", local)


def test_scheme_of_a_redirect_is_in_lower_case() -> None:
    """It decides whether certificates are checked."""
    local = settings("http://127.0.0.1")
    home = source_of(CONTENT, local)

    target = follow_redirect(home, "HTTPS://cdn.example/V", local)

    assert (
        "https://cdn.example/V" == target.url == source_of("HTTPS://cdn.example/V", local).url
    )


@pytest.mark.parametrize("text", ["/", "//a", "@", "é", "[", "https://u:secret@h/" + "a" * 99])
def test_endless_url_is_refused_before_it_is_looked_at(text: str) -> None:
    url = text * (8 * MIB // len(text))
    began = time.thread_time()

    with pytest.raises(SourceError, match="more than 16384 characters"):
        source_of(url, settings())
    with pytest.raises(SourceError, match="more than 16384 characters"):
        follow_redirect(source_of("/v", settings()), url, settings())

    assert f"a URL of {len(url)} characters" == shown(url)
    assert time.thread_time() - began < 0.02


@given(st.text("/:@[]?#%;.\\ax0-Hé\u2028\u0301") | st.text())
def test_any_url_is_a_source_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"HTTPS://cdn.example/{text}", f"/{text}"):
        try:
            found = source_of(url, settings())
        except SourceError:
            shown(url)
            continue

        assert found.url.startswith(("https://", "data:", "DATA:"))
        assert found.url[:5].lower() == "data:" or httpx.URL(found.url).host


@given(st.text("/:@[]?#%;.\\ax0-Hé\u2028\u0301") | st.text())
def test_any_base_url_is_used_or_refused(text: str) -> None:
    for url in (text, f"https://{text}", f"https://xn--{text}"):
        with suppress(ConfigurationError):
            transport_to(url, httpx.MockTransport(_none))


def _none(_: httpx.Request) -> httpx.Response:
    raise AssertionError("nothing is sent")


def test_url_in_an_error_has_no_secrets() -> None:
    assert "https://cdn.example/v.mp4" == shown("https://u:p@cdn.example/v.mp4?sig=secret#f")
    assert "data:…" == shown("data:video/mp4;base64,AAAA")


@given(st.binary(max_size=3000))
def test_data_url_is_decoded(body: bytes) -> None:
    encoded = base64.b64encode(body).decode()

    assert body == b"".join(decode_data(f"data:video/mp4;base64,{encoded}"))
    assert body == b"".join(decode_data("data:;BASE64," + encoded.replace("=", "%3D")))
    assert body == b"".join(decode_data("data:," + "".join(f"%{byte:02x}" for byte in body)))


@given(st.text(st.sampled_from("%=_aF09zx\n\r\t é")))
def test_escapes_of_a_data_url_are_those_of_any_url(text: str) -> None:
    assert unquote_to_bytes(text) == b"".join(decode_data(f"data:,{text}"))


@pytest.mark.parametrize(
    ("text", "decoded"), [("%", b"%"), ("%41", b"A"), ("é", "é".encode()), ("=", b"=")]
)
def test_escapes_of_a_huge_data_url_take_little_time(text: str, decoded: bytes) -> None:
    count = 8 * MIB // len(text)
    began = time.process_time()

    pieces = decode_data(f"data:,{text * count}")

    assert decoded * count == b"".join(pieces)
    assert max(map(len, pieces)) <= 2 * 65536
    assert time.process_time() - began < 5  # it was twenty


def test_large_data_url_is_decoded_in_pieces() -> None:
    body = bytes(range(256)) * 8192

    assert body == b"".join(decode_data("data:;base64," + base64.b64encode(body).decode()))


@pytest.mark.parametrize("shift", range(4))
def test_piece_of_a_data_url_never_splits_an_escape(shift: int) -> None:
    escaped = "data:," + "a" * shift + "%41" * 100_000 + "%"
    pieces = decode_data(escaped)

    assert b"a" * shift + b"A" * 100_000 + b"%" == b"".join(pieces)
    assert max(map(len, pieces)) <= 65536


@pytest.mark.parametrize("text", ["AAA", "AA=A", "A===", "AAAA====", "A A=", "äAAA", "AA\nA"])
def test_malformed_data_url_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="malformed"):
        decode_data(f"data:video/mp4;base64,{text}")


def test_data_url_without_a_comma_is_refused() -> None:
    with pytest.raises(SourceError, match="malformed"):
        decode_data("data:video/mp4;base64")


@pytest.mark.parametrize(
    "url", ["data:;base64," + "A" * 4000, "data:," + "x" * 1001, "data:," + "x" * 4000]
)
def test_oversized_data_url_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_DATA", 1000)

    with pytest.raises(SourceError, match="more than 1000 bytes"):
        decode_data(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:video/webm;base64,AAAA", "video/webm"),
        ("data:video/mp4,x", "video/mp4"),
        ("data:;base64,AAAA", ""),
        ("data:,x", ""),
    ],
)
def test_media_type_of_a_data_url_is_parsed(url: str, expected: str) -> None:
    assert expected == data_type(url)


class Router(httpx.AsyncHTTPTransport):
    """Connects public host names to servers on this machine, and records the hosts."""

    def __init__(self, **ports: int) -> None:
        super().__init__()
        self.ports = {name.replace("_", "."): port for name, port in ports.items()}
        self.hosts: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.hosts.append(request.url.host)
        port = self.ports.get(request.url.host, request.url.port)
        request.url = request.url.copy_with(scheme="http", host="127.0.0.1", port=port)
        return await super().handle_async_request(request)


@asynccontextmanager
async def routed(url: str, **ports: int) -> AsyncIterator[tuple[AsyncQueueClient, list[str]]]:
    """A client with local servers as other hosts; its headers and cookies must not leak."""
    router = Router(**ports)
    async with (
        httpx.AsyncClient(
            transport=router,
            headers={"x-own": "secret", "authorization": "Bearer other"},
            cookies={"session": "secret"},
        ) as http_client,
        on_socket(url, http_client=http_client) as client,
    ):
        yield client, router.hosts


async def test_key_is_never_sent_to_another_host(tmp_path: Path) -> None:
    async with (
        raw_server(answer(SAMPLE)) as away,
        raw_server() as home,
        routed(url_of(home), cdn_example=away.port) as (client, hosts),
    ):
        (path,) = await client.download(result_of("https://cdn.example/v.mp4?sig=1"), tmp_path)

    assert SAMPLE == path.read_bytes()
    assert ["cdn.example"] == hosts
    assert set(away.asked[0]) & {"authorization", "cookie", "x-own"} == set()
    assert KEY not in str(away.asked)


async def test_redirect_to_another_host_is_followed_without_the_key(tmp_path: Path) -> None:
    to_cdn = answer(b"", "location: https://cdn.example/v.mp4", status="302 Found")
    onward = answer(b"", "location: /w.mp4", status="307 Temporary Redirect")
    async with (
        raw_server(onward, answer(SAMPLE)) as away,
        raw_server(to_cdn) as home,
        routed(url_of(home), cdn_example=away.port) as (client, hosts),
    ):
        (path,) = await client.download(result_of(PATH), tmp_path)

    assert SAMPLE == path.read_bytes()
    assert ["127.0.0.1", "cdn.example", "cdn.example"] == hosts
    assert f"Bearer {KEY}" == home.asked[0]["authorization"]
    assert [None, None] == [asked.get("authorization") for asked in away.asked]
    assert "GET /w.mp4 HTTP/1.1" == away.asked[1][""]


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("http://cdn.example/v.mp4", "over https only"),
        ("https://10.0.0.1/v.mp4", "private network"),
        ("file:///etc/passwd", "must start with https"),
        ("/v1/queue/veo-3/requests/abc", "may be billed"),
        ("", "malformed"),
        (PATH, "more than 5 times"),
    ],
)
async def test_redirect_to_a_forbidden_url_is_an_error(
    tmp_path: Path, location: str, says: str
) -> None:
    moved = answer(b"", f"location: {location}", status="301 Moved Permanently")
    async with raw_server(moved) as home, on_socket(url_of(home)) as client:
        with pytest.raises(DownloadError, match=says):
            await client.download(result_of(PATH), tmp_path)

    assert (6 if location == PATH else 1) == len(home.asked)
    assert [] == names(tmp_path)


@pytest.mark.parametrize("location", ["data:video/mp4,x", "mailto:a@example.com"])
async def test_redirect_to_a_url_without_a_host_is_not_retried(
    tmp_path: Path, location: str
) -> None:
    there = answer(b"", f"location: {location}", status="302 Found")
    async with raw_server(there) as server, on_socket(url_of(server)) as client:
        with pytest.raises(DownloadError, match="must start with https"):
            await client.download(result_of(PATH), tmp_path)

    assert 1 == len(server.asked)


@pytest.mark.parametrize(
    "address",
    [
        "http://cdn.example/v.mp4?sig=secret",
        "https://192.168.0.1/v.mp4?sig=secret",
        "https://user:secret@cdn.example/v.mp4",
        "file:///etc/passwd?secret",
        "/v1/queue/veo-3/requests/abc?secret",
    ],
)
async def test_forbidden_url_is_an_error_before_any_io(
    emulator: Emulator, url: str, tmp_path: Path, address: str
) -> None:
    async with on_socket(url) as client:
        with pytest.raises(DownloadError) as caught:
            await client.download(result_of(address), tmp_path / "never")
        with pytest.raises(DownloadError):
            async with client.stream(Video(address, 0)):
                pass

    assert [] == emulator.requests
    assert [] == names(tmp_path)
    assert "secret" not in str(caught.value) + caught.value.url
    assert caught.value.url


async def test_host_with_a_private_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, {"inside.example": ["93.184.216.34", "10.0.0.7"]})
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match="private network"):
            await client.download(result_of("https://inside.example/v"), tmp_path)

    assert [] == names(tmp_path)
    assert ["inside.example"] == asked


async def test_host_that_does_not_resolve_is_an_error_and_looked_up_at_each_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, {})
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match=r"interrupted.*no such name"):
            await client.download(result_of("https://nowhere.example/v"), tmp_path)

    assert ["nowhere.example"] * 4 == asked


@pytest.mark.parametrize("host", ["a..b.com", "a" * 64 + ".com", ".example"])
async def test_malformed_host_name_is_an_error(tmp_path: Path, host: str) -> None:
    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(DownloadError, match="host name is malformed"):
            await client.download(result_of(f"https://{host}/v.mp4"), tmp_path)
        with pytest.raises(DownloadError, match="host name is malformed"):
            async with client.stream(Video(f"https://{host}/v.mp4", 0)):
                pass


async def test_certificates_are_checked(
    emulator: Emulator,
    made_certificate: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    certificate, key = made_certificate
    emulator.add_job("reef")
    (content_id,) = [job.content_id for job in emulator.jobs.values()]
    path = f"/v1/queue/veo-3/requests/{quote(content_id, safe='')}/content/0"
    async with emulator.serve(ssl_certfile=certificate, ssl_keyfile=key) as url:
        base = url.replace("127.0.0.1", "localhost")
        async with on_socket(base) as client:
            with pytest.raises(DownloadError, match="certificate verify failed"):
                await client.download(result_of(path), tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        async with on_socket(base) as client:
            (saved,) = await client.download(result_of(path), tmp_path)

    assert SAMPLE == saved.read_bytes()


PROXIES = pytest.mark.parametrize(
    ("proxy", "problem"), [("socks5://h:1", "socksio"), ("socks4://h:1", "scheme")]
)


@PROXIES
async def test_unusable_proxy_is_an_error_before_any_call(
    proxy: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)

    with pytest.raises(ConfigurationError, match=f"proxy that the environment.*{problem}"):
        on_socket("https://films.example")


@PROXIES
async def test_unusable_proxy_for_other_hosts_is_an_error(
    proxy: str, problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("https_proxy", proxy)

    async with on_socket("http://127.0.0.1:9") as client:
        with pytest.raises(ConfigurationError, match=problem):
            await client.download(result_of("https://192.0.2.256.example/v"), tmp_path)
        with pytest.raises(ConfigurationError, match=problem):
            async with client.stream(Video("https://192.0.2.256.example/v", 0)):
                pass


async def test_data_url_is_saved_and_streamed(tmp_path: Path) -> None:
    result = result_of(data_url("video/mp4", SAMPLE))
    async with on_socket("http://127.0.0.1:1") as client:
        (path,) = await client.download(result, tmp_path)
        async with client.stream(result.videos[0]) as chunks:
            streamed = b"".join([chunk async for chunk in chunks])

    assert SAMPLE == path.read_bytes()
    assert SAMPLE == streamed


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("data:video/mp4;base64,AA=A", "malformed"),
        ("data:video/mp4", "malformed"),
        (data_url("video/mp4", SAMPLE + bytes(9000)), "more than 9000 bytes"),
        (data_url("video/mp4", SAMPLE[:-1]), "not a complete MP4"),
        (data_url("video/mp4", b"<html>error</html>"), "not a video"),
    ],
)
async def test_bad_data_url_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setattr(sources, "MAX_DATA", 9000)
    async with on_socket("http://127.0.0.1:1") as client:
        with pytest.raises(DownloadError, match=says) as caught:
            await client.download(result_of(address), tmp_path)

    assert [] == names(tmp_path)
    assert "data:…" == caught.value.url
