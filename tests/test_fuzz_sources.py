"""Fuzzing of what a response says about a video: its address, a ``data:`` URL, its range."""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import pickle
import re
from urllib.parse import quote, unquote_to_bytes

import attrs
import httpx
import pytest
from corpora import each_of, fuzzed, kept
from hypothesis import example, given
from hypothesis import strategies as st
from support import KEY
from test_fuzz_api import any_text, dates, header

from modelmax_async._download.containers import SUFFIXES
from modelmax_async._download.part_names import (
    LONGEST_PART_ENDING,
    ResumeInfo,
    is_part,
    part_name,
    read_resume_info,
    reset_name,
    source_digest,
)
from modelmax_async._download.ranges import (
    continuation,
    range_headers,
    read_content_range,
    read_length,
    resume_info_of,
)
from modelmax_async._download.sources import (
    Source,
    SourceError,
    data_type,
    decode_data,
    follow_redirect,
    is_data,
    shown,
    source_of,
)
from modelmax_async._http.addresses import is_private
from modelmax_async._settings import ApiKey, Settings, read_settings

BASES = [
    "https://api.modelmax.io",
    "https://api.modelmax.io/prefix",
    "https://api.modelmax.io:8443",
    "http://127.0.0.1:80",
    "http://[::1]:8080",
]
# RFC 3986, appendix B: an independent reading of scheme and authority
_URL = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?[^?#]*(?:\?[^#]*)?(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(?:(.*)@)?(\[[^\]]*\]|[^:]*)(?::([0-9]*))?", re.DOTALL)
_PORTS = {"http": 80, "https": 443}


def settings_of(base_url: str) -> Settings:
    return read_settings(
        api_key=ApiKey(KEY),
        base_url=base_url,
        model=None,
        on_uncertain="raise",
        max_in_flight=4,
        allow_insecure=False,
        environ={},
    )


def origin(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port by RFC 3986, and refuse credentials."""
    found = _URL.fullmatch(url)
    assert found is not None
    scheme, authority = (found[1] or "").lower(), _AUTHORITY.fullmatch(found[2] or "")
    assert authority is not None
    assert authority[1] is None
    port = int(authority[3] or 0) or _PORTS[scheme]
    return scheme, authority[2].lower().rstrip("."), port


def origin_by_the_http_library(url: str) -> tuple[str, str, int] | None:
    """Return the same as the HTTP library reads it, ``None`` if it refuses the URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return None
    host = parsed.raw_host.decode().rstrip(".")
    port = parsed.port or _PORTS[parsed.scheme]
    return parsed.scheme, f"[{host}]" if ":" in host else host, port


def check(source: Source, base_url: str) -> None:
    """Check where a source leads, and that the key goes to the base URL's origin only."""
    if is_data(source.url):
        assert not source.keyed
        return
    assert source.url.isascii()
    assert source.url.isprintable()
    reached = origin_by_the_http_library(source.url)
    if reached is None:
        return
    assert reached == origin(source.url)
    assert source.keyed == (reached == origin(base_url))
    if not source.keyed:
        assert "https" == reached[0]
        with contextlib.suppress(ValueError):  # a name
            assert not is_private(reached[1].strip("[]"))


_fragments = st.sampled_from(
    [
        "https:",
        "http:",
        "HTTPS:",
        "data:",
        "//",
        "/",
        "\\",
        "@",
        ":",
        "?",
        "#",
        ";",
        ",",
        ".",
        "..",
        "%2e",
        "%2F",
        "%5C",
        "%00",
        "%20",
        "[",
        "]",
        "*",
        "~",
        "user",
        "pass",
        "api.modelmax.io",
        "API.ModelMax.IO",
        "api.modelmax.io.",
        "evil.example",
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1%25eth0",
        "v1.x",
        "localhost",
        "a.localhost",
        "xn--",
        "xn--a",
        "443",
        "0443",
        "65536",
        "-1",
        "\xe9",
        "\u3002",
        "\t",
        "\n",
        "\u202e",
        "\ud800",
        "queue",
        "requests",
        "content",
        "status",
        "v1",
    ]
)
_hosts = st.lists(_fragments, min_size=1, max_size=4).map("".join)
addresses = (
    any_text
    | st.lists(_fragments | st.text(max_size=2), max_size=10).map("".join)
    | st.builds(
        lambda *parts: "".join(parts),
        st.sampled_from(["https://", "HTTPS://", "hTTp://", "//", "http://", "/", ""]),
        _hosts,
        st.sampled_from(["", ":443", ":80", ":", ":0", ":0443", ":8443", ":65536", ":٣"]),
        st.sampled_from(["", "/v.mp4", "?a=b", "#c", "/../v", "/v1/queue/m/requests/r"]),
    )
)


@fuzzed
@given(addresses, addresses, st.sampled_from(BASES))
def test_key_goes_to_the_origin_of_the_base_url_only(
    url: str, location: str, base_url: str
) -> None:
    check_address(url, location, base_url)


@each_of("urls")
def test_kept_address_gets_no_key_of_another_origin(data: bytes) -> None:
    url = data.decode("utf-8", "surrogatepass")
    for base_url in BASES:
        check_address(url, url, base_url)
        check_address("/v1/content/0", url, base_url)


@pytest.mark.parametrize(
    "name",
    [
        "ip_future",
        "punycode_broken",
        "punycode_capitals",
        "capitals",
        "underscore",
        "zone",
        "trailing_dot",
    ],
)
def test_accepted_address_is_one_that_the_http_library_reads(name: str) -> None:
    with contextlib.suppress(SourceError):
        url = source_of(kept("urls", name).decode(), settings_of(BASES[0])).url

        assert httpx.URL(url).host


def test_port_0_is_refused() -> None:
    with pytest.raises(SourceError):
        source_of(kept("urls", "port_0").decode(), settings_of(BASES[0]))


def check_address(url: str, location: str, base_url: str) -> None:
    chosen = settings_of(base_url)
    with contextlib.suppress(SourceError):
        source = source_of(url, chosen)
        check(source, base_url)
        if not is_data(url):
            target = follow_redirect(source, location, chosen)
            check(target, base_url)
            assert origin(source.url)[0] in {"http", origin(target.url)[0]}
    assert len(shown(url)) <= 300
    assert shown(url).isprintable()


@fuzzed
@given(addresses, st.sampled_from(BASES))
def test_refusal_of_an_address_is_printable(url: str, base_url: str) -> None:
    try:
        source_of(url, settings_of(base_url))
    except SourceError as exc:
        assert str(exc).isprintable()  # noqa: PT017 - most addresses are refused


@fuzzed
@given(st.text("abc:%", min_size=1), st.text("abc/%", max_size=9), st.text("s=&", max_size=9))
def test_address_is_shown_without_credentials_and_query(
    password: str, path: str, query: str
) -> None:
    text = shown(f"https://user:pw{password}@cdn.example/{path}?sig{query}")

    assert f"https://cdn.example/{path}" == text


PRIVATE = list(
    map(
        ipaddress.IPv4Network,
        [
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ],
    )
)
_private = st.sampled_from(PRIVATE).flatmap(lambda each: st.ip_addresses(network=each))


@fuzzed
@given(_private)
def test_private_address_is_found_in_every_form(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [
        address,
        ipaddress.IPv6Address((0xFFFF << 32) | number),  # mapped
        ipaddress.IPv6Address(number),  # compatible
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),  # 6to4
        ipaddress.IPv6Address((0x64FF9B << 96) | number),  # NAT64
    ]

    assert [True] * len(forms) == [is_private(str(form)) for form in forms]


@fuzzed
@given(any_text | st.ip_addresses().map(str) | _hosts)
def test_any_host_is_an_address_or_a_value_error(host: str) -> None:
    with contextlib.suppress(ValueError):
        assert is_private(host) in {True, False}


def check_data(url: str) -> None:
    assert data_type(url) is not None
    with contextlib.suppress(SourceError):
        assert all(isinstance(piece, bytes) for piece in decode_data(url))


data_urls = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["data:", "DATA:", "data:video/mp4;base64", "data:;BASE64 ", "data:;x=1"]),
    st.sampled_from([",", ",,", "", ";base64,"]),
    any_text
    | st.text("%0aAfF=+/", max_size=20)
    | st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()),
)


@fuzzed
@given(data_urls | any_text)
def test_any_data_url_is_decoded_or_refused(url: str) -> None:
    check_data(url.encode(errors="replace").decode())


def test_data_url_with_an_unpaired_surrogate_is_decoded_or_refused() -> None:
    check_data(kept("urls", "data_with_a_surrogate").decode("utf-8", "surrogatepass"))


@fuzzed
@given(st.binary(max_size=99), st.text("aZ/%+ ", max_size=5))
def test_data_url_is_decoded_as_it_was_encoded(data: bytes, safe: str) -> None:
    digits = base64.b64encode(data).decode()
    urls = [
        f"data:,{quote(data, safe=safe.replace('%', ''))}",
        f"data:video/mp4;base64,{digits}",
        f"DATA:;Base64,{quote(digits, safe='')}",
    ]

    assert [data] * 3 == [b"".join(decode_data(url)) for url in urls]


@fuzzed
@given(st.integers(0, 300), st.sampled_from(["%", "%4", "%41", "a", "é"]))
def test_pieces_of_a_long_data_url_are_cut_between_escapes(before: int, unit: str) -> None:
    text = "a" * before + unit * (70_000 // len(unit))

    assert unquote_to_bytes(text) == b"".join(decode_data(f"data:,{text}"))


_values = st.sampled_from(
    [
        '"a"',
        'W/"a"',
        '""',
        "Mon, 01 Jan 2024 00:00:00 GMT",
        "Mon, 01 Jan 2024\t00:00:00 GMT",
        "Tue, 02 Jan 2024 00:00:00 GMT",
        "bytes 0-1/2",
        "bytes 5-9/10",
        "bytes 5-4/*",
        f"bytes {'9' * 20}-{'9' * 20}/*",
        f"bytes {'9' * 21}-1/2",
        "bytes ٣-٣/٣",
        "5",
        "٣",
        "9" * 21,
    ]
)
header_sets = st.dictionaries(
    st.sampled_from(["etag", "last-modified", "date", "content-range", "content-length"]),
    _values | dates | any_text,
)
NAME = "reef-0a1b2c3d-0.mp4"


@fuzzed
@given(
    header_sets,
    header_sets,
    st.none() | st.integers(1, 10**20 - 1),
    st.sampled_from([None, *SUFFIXES]),
    st.integers(0, 100),
)
@example(
    {
        "last-modified": "Mon, 01 Jan 2024\t00:00:00 GMT",
        "date": "Tue, 02 Jan 2024 00:00:00 GMT",
    },
    {},
    5,
    None,
    0,
)
def test_every_part_that_is_written_can_be_resumed(
    first: dict[str, str],
    second: dict[str, str],
    total: int | None,
    suffix: str | None,
    offset: int,
) -> None:
    """An incomplete video whose name is not read again would stay on the disk for ever."""
    info = resume_info_of(first, source_digest("/v"), total, suffix)
    if info is None:
        return
    entry = part_name(NAME, info)

    assert info == read_resume_info(NAME, entry)
    assert is_part(NAME, entry)
    assert len(entry.encode()) <= len(NAME) + LONGEST_PART_ENDING
    assert all(value.isprintable() for value in range_headers(info, offset).values())
    check_range(second, info, offset)


def check_range(headers: dict[str, str], info: ResumeInfo, offset: int) -> None:
    joined = continuation(headers, info, offset)
    if joined is not None:
        assert offset == joined.start < joined.end
        assert info.total in {None, joined.total}


@fuzzed
@given(
    st.dictionaries(st.sampled_from(["content-range", "content-length"]), _values | any_text)
)
def test_any_range_and_length_are_numbers_or_none(headers: dict[str, str]) -> None:
    found, length = read_content_range(headers), read_length(headers)

    assert found is None or (found.start >= 0 and found.end > 0)
    assert length is None or 0 <= length < 10**20


@fuzzed
@given(any_text, any_text | st.from_regex(r"a\.[0-9a-f]{16}-[0-9]+-[0-9a-f]+(-mp4)?\.part"))
def test_any_entry_of_a_directory_is_a_part_or_not(name: str, entry: str) -> None:
    info = read_resume_info(name, entry)

    assert not is_part(name, entry) or entry.startswith(f"{name}.")
    assert info == pickle.loads(pickle.dumps(info))
    assert info is None or info.validator.isprintable()
    assert is_part("a", reset_name("a"))
    assert attrs.evolve(info, suffix=None) if info else True


@fuzzed
@given(header)
def test_any_date_of_a_response_makes_a_resume_info_or_none(value: str | None) -> None:
    headers = {"last-modified": value or "", "date": value or ""}

    assert resume_info_of(headers, "0" * 16, 5) is None
