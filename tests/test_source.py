"""Where videos are fetched from, with the key and without; names of files; ranges."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async._download import sources
from modelmax_async._download.containers import SUFFIXES, is_error_page, media_type, suffix_of
from modelmax_async._download.names import (
    ResumeInfo,
    file_name,
    is_part,
    part_name,
    read_resume_info,
    source_digest,
)
from modelmax_async._download.ranges import (
    ContentRange,
    continuation,
    range_headers,
    read_content_range,
    read_length,
    resume_info_of,
)
from modelmax_async._download.sources import (
    SourceError,
    data_type,
    decode_data,
    follow_redirect,
    shown,
    source_of,
)
from modelmax_async._settings import ApiKey, Settings, read_settings

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
        ("https://h.example/p", "/p/v/0", "https://h.example/p/v/0"),
        ("https://h.example", "https://H.example.:443/v#x", "https://H.example.:443/v"),
        ("http://127.0.0.1:80", "http://127.0.0.1/v?a=b", "http://127.0.0.1/v?a=b"),
    ],
)
def test_key_goes_to_the_own_origin(base: str, url: str, expected: str) -> None:
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
    assert source.host
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
    ],
)
def test_what_must_not_be_fetched_is_refused(url: str) -> None:
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


def test_redirects_are_judged_anew() -> None:
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


def test_https_is_not_left_again_for_a_local_base() -> None:
    local = settings("http://127.0.0.1:8000")
    away = source_of("https://cdn.example/v", local)

    with pytest.raises(SourceError, match="from https to http"):
        follow_redirect(away, "http://127.0.0.1:8000/v", local)


def test_errors_show_a_url_without_its_secrets() -> None:
    assert shown("https://u:p@cdn.example/v.mp4?sig=secret#f") == "https://cdn.example/v.mp4"
    assert shown("data:video/mp4;base64,AAAA") == "data:…"


@given(st.binary(max_size=3000))
def test_data_urls_give_their_bytes(body: bytes) -> None:
    encoded = base64.b64encode(body).decode()

    assert body == b"".join(decode_data(f"data:video/mp4;base64,{encoded}"))
    assert body == b"".join(decode_data("data:;BASE64," + encoded.replace("=", "%3D")))
    assert body == b"".join(decode_data("data:," + "".join(f"%{byte:02x}" for byte in body)))


def test_large_data_url_is_decoded_in_pieces() -> None:
    body = bytes(range(256)) * 8192

    assert body == b"".join(decode_data("data:;base64," + base64.b64encode(body).decode()))


@pytest.mark.parametrize("shift", range(4))
def test_data_url_of_escapes_is_decoded_in_pieces_that_cut_none(shift: int) -> None:
    escaped = "data:," + "a" * shift + "%41" * 100_000 + "%"
    pieces = decode_data(escaped)

    assert b"a" * shift + b"A" * 100_000 + b"%" == b"".join(pieces)
    assert max(map(len, pieces)) <= 65536


@pytest.mark.parametrize("text", ["AAA", "AA=A", "A===", "AAAA====", "A A=", "äAAA", "AA\nA"])
def test_malformed_data_urls_are_refused(text: str) -> None:
    with pytest.raises(SourceError, match="malformed"):
        decode_data(f"data:video/mp4;base64,{text}")


def test_data_url_without_a_comma_is_refused() -> None:
    with pytest.raises(SourceError, match="malformed"):
        decode_data("data:video/mp4;base64")


@pytest.mark.parametrize(
    "url", ["data:;base64," + "A" * 4000, "data:," + "x" * 1001, "data:," + "x" * 4000]
)
def test_oversized_data_urls_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_DATA", 1000)

    with pytest.raises(SourceError, match="more than 1000 bytes"):
        decode_data(url)


IDS = st.one_of(
    st.text(alphabet="aA/+=-_.0:", max_size=12), st.text(st.characters(), max_size=80)
)


@given(IDS, st.integers(0, 999))
def test_names_stay_in_the_directory_on_every_system(request_id: str, index: int) -> None:
    name = file_name(request_id, index)
    suffix = max(SUFFIXES, key=len)
    longest = part_name(name, ResumeInfo("0" * 16, '"' + "x" * 54 + '"', 10**19, suffix))

    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[0-9a-f]{32})?-[0-9]+\.mp4", name)
    assert len(longest) <= 255


@given(IDS, IDS, st.integers(0, 20), st.integers(0, 20))
def test_two_videos_never_share_a_name(one: str, two: str, i: int, j: int) -> None:
    same = file_name(one, i).lower() == file_name(two, j).lower()

    assert ((one, i) == (two, j)) == same


def test_plain_ids_are_readable_names() -> None:
    assert file_name("reef-7", 1) == "reef-7-1.mp4"
    assert file_name("../../etc/passwd", 0).startswith("etc_passwd.")
    assert file_name("...", 0).startswith("video.")
    assert file_name("aa", 0) != file_name("AA", 0).lower()


@pytest.mark.parametrize("index", [-1, True, "0", 10**6])
def test_index_that_no_video_has_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="index of a video"):
        file_name("a", index)


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='"')),
    st.none() | st.integers(1, 2**63),
    st.none() | st.sampled_from(SUFFIXES),
)
def test_marks_survive_in_names(tag: str, total: int | None, suffix: str | None) -> None:
    resume_info = ResumeInfo(source_digest("https://h/v?a"), f'"{tag[:54]}"', total, suffix)
    name = part_name("a-0.mp4", resume_info)

    assert resume_info == read_resume_info("a-0.mp4", name)
    assert is_part("a-0.mp4", name)


@pytest.mark.parametrize(
    "entry", ["a-0.mp4", "a-0.mp4.part.x", "a-0.mp4.note.part", "b-0.mp4.part", "a-0.mp4."]
)
def test_other_files_are_no_parts(entry: str) -> None:
    assert not is_part("a-0.mp4", entry)


def test_part_is_known_without_a_mark() -> None:
    assert is_part("a-0.mp4", part_name("a-0.mp4", None))


def test_mark_that_no_server_sent_is_not_believed() -> None:
    smuggled = b'"x"\r\nhost: evil'.hex()

    assert read_resume_info("a-0.mp4", f"a-0.mp4.{'0' * 16}-5-{smuggled}.part") is None


def test_suffix_that_no_video_has_is_not_believed() -> None:
    resume_info = ResumeInfo("0" * 16, '"a"', 5, "webm")
    name = part_name("a-0.mp4", resume_info)

    assert read_resume_info("a-0.mp4", name) == resume_info
    assert read_resume_info("a-0.mp4", name.replace("-webm", "-exe")) is None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("video/mp4", "mp4"),
        ("VIDEO/WebM; codecs=vp9", "webm"),
        (" video/quicktime ", "mov"),
        ("video/x-matroska", "mkv"),
        ("video/x-foo", "video"),
        ("video/../../evil", None),
        ("video/", None),
        ("video/mp4, text/html", None),
        ("audio/mp4", None),
        ("application/octet-stream", None),
        ("text/plain", None),
        ("", None),
    ],
)
def test_suffix_comes_from_a_list(kind: str, expected: str | None) -> None:
    assert expected == suffix_of(media_type(kind))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("text/html; charset=utf-8", True),
        ("Application/JSON", True),
        ("application/problem+json", True),
        ("application/xhtml+xml", True),
        ("text/xml", True),
        ("text/plain", False),
        ("application/octet-stream", False),
        ("video/mp4", False),
        ("", False),
    ],
)
def test_error_pages_are_known_by_their_type(kind: str, *, expected: bool) -> None:
    assert expected == is_error_page(media_type(kind))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("data:video/webm;base64,AAAA", "video/webm"),
        ("data:video/mp4,x", "video/mp4"),
        ("data:;base64,AAAA", ""),
        ("data:,x", ""),
    ],
)
def test_type_of_a_data_url_is_in_front(url: str, expected: str) -> None:
    assert expected == data_type(url)


def test_signature_in_the_query_does_not_change_the_source() -> None:
    assert source_digest("https://h/v?sig=1") == source_digest("https://h/v?sig=2")
    assert source_digest("https://h/v") != source_digest("https://h/w")


LATER = "Tue, 02 Jan 2024 00:00:00 GMT"
EARLIER = "Mon, 01 Jan 2024 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"etag": '"a"'}, '"a"'),
        ({"etag": '"a"', "last-modified": EARLIER, "date": LATER}, '"a"'),
        ({"etag": 'W/"a"'}, None),
        ({"etag": 'W/"a"', "last-modified": EARLIER, "date": LATER}, EARLIER),
        ({"etag": '"' + "a" * 99 + '"', "last-modified": EARLIER, "date": LATER}, EARLIER),
        ({"last-modified": EARLIER, "date": EARLIER}, None),
        ({"last-modified": EARLIER}, None),
        ({"last-modified": "yesterday", "date": LATER}, None),
        ({}, None),
    ],
)
def test_only_strong_validators_make_a_mark(
    headers: dict[str, str], expected: str | None
) -> None:
    resume_info = resume_info_of(headers, "s", 7)

    assert expected == (resume_info.validator if resume_info else None)


def test_range_is_asked_for_with_its_condition() -> None:
    resume_info = ResumeInfo("s", '"a"', 9)

    assert range_headers(resume_info, 4) == {"range": "bytes=4-", "if-range": '"a"'}
    assert range_headers(resume_info, 0) == {}
    assert range_headers(None, 4) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"content-length": "5"}, True),
        ({"content-length": "6"}, False),
        ({"content-range": "bytes 4-6/9"}, True),
        ({"content-range": "bytes 5-8/9"}, False),
        ({"content-range": "bytes 4-3/9"}, False),
        ({"content-range": "bytes 4-8/10"}, False),
        ({"content-range": "bytes 4-8/*"}, False),
        ({"content-range": ""}, False),
        ({"etag": '"b"'}, False),
        ({"etag": ""}, False),
    ],
)
def test_piece_joins_only_where_everything_fits(
    change: dict[str, str], *, expected: bool
) -> None:
    headers = {"content-range": "bytes 4-8/9", "etag": '"a"'} | change

    found = continuation(headers, ResumeInfo("s", '"a"', 9), 4)

    assert expected == (found is not None)


def test_date_of_a_piece_is_that_of_the_beginning() -> None:
    resume_info = ResumeInfo("s", EARLIER, None)

    piece = {"content-range": "bytes 4-8/9"}

    assert continuation({"content-range": "bytes 4-8/*"}, resume_info, 4) is None
    assert ContentRange(4, 9, 9) == continuation(
        piece | {"last-modified": EARLIER}, resume_info, 4
    )
    assert continuation(piece | {"last-modified": LATER}, resume_info, 4) is None


def test_lengths_are_read_where_they_are_numbers() -> None:
    assert read_length({"content-length": "12"}) == 12
    assert read_length({"content-length": "12, 12"}) is None
    assert read_length({}) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bytes 0-1/7", ContentRange(0, 2, 7)),
        (" bytes 0-1/* ", ContentRange(0, 2, None)),
        ("bytes */7", None),
        ("bytes 0-1", None),
        ("lines 0-1/7", None),
        ("", None),
    ],
)
def test_content_range_is_parsed(text: str, expected: ContentRange | None) -> None:
    assert expected == read_content_range({"content-range": text})


def test_missing_content_range_is_none() -> None:
    assert read_content_range({}) is None
