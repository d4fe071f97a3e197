"""Replies: decompression, error bodies, and text that can always be shown."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from strategies import JOB, NOW, envelope, replies, reply, value_or_error, wild_json, wild_text

from modelmax_async import _errors as errors
from modelmax_async._api.messages import (
    Call,
    Reply,
    as_text,
    as_utf8,
    decoded,
    decompress,
    is_encoded,
    parse_error,
    read_json,
    shown,
)

TEXT = b'{"status": "COMPLETED"}'
MOST = 8 * 1024 * 1024


def _raw_deflate(data: bytes) -> bytes:
    pack = zlib.compressobj(wbits=-15)
    return pack.compress(data) + pack.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        (" GZIP", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("gzip", zlib.compress(TEXT)),
        ("gzip", gzip.compress(b"0" * MOST, mtime=0)),
    ],
)
def test_known_encodings_are_decompressed(encoding: str, body: bytes) -> None:
    text = decompress(body, encoding, MOST)

    assert text in {TEXT, b"0" * MOST}


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [("", False), ("identity", False), (" Identity ", False), ("gzip", True), ("br", True)],
)
def test_identity_is_no_compression(encoding: str, *, expected: bool) -> None:
    assert expected == is_encoded(encoding)


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("gzip", b"", "truncated"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-1], "truncated"),
        ("gzip", gzip.compress(TEXT, mtime=0) + gzip.compress(TEXT, mtime=0), "trailing data"),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"\0", "trailing data"),
        ("gzip", TEXT, "invalid gzip body"),
        ("deflate", _raw_deflate(TEXT), "invalid deflate body"),
        ("deflate", zlib.compress(TEXT)[:-1], "truncated"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-8] + b"\0" * 8, "invalid gzip body"),
        ("gzip", gzip.compress(b"0" * (MOST + 1), mtime=0), "exceeds 8388608 bytes"),
        ("br", TEXT, "unknown Content-Encoding br"),
        ("gzip, gzip", TEXT, "unknown Content-Encoding gzip, gzip"),
        ("b\ud800r", TEXT, "unknown Content-Encoding b.r"),
    ],
)
def test_body_that_cannot_be_decompressed_is_a_value_error(
    encoding: str, body: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        decompress(body, encoding, MOST)


def test_body_that_is_still_compressed_is_not_read() -> None:
    packed = reply(200, gzip.compress(TEXT, mtime=0), content_encoding="gzip")
    with pytest.raises(ValueError, match="Content-Encoding: gzip"):
        decoded(packed)

    assert TEXT == decoded(reply(200, TEXT))


def test_compression_bomb_is_not_fully_decompressed() -> None:
    """Twenty times the limit is refused after decompressing no more than the limit."""
    pack = zlib.compressobj(wbits=31)
    bomb = b"".join([*(pack.compress(b"\0" * MOST) for _ in range(20)), pack.flush()])

    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="exceeds"):
            decompress(bomb, "gzip", MOST)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert len(bomb) < MOST // 20
    assert peak < 4 * MOST


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.InsufficientBalanceError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (405, errors.APIError),
        (408, errors.APIError),
        (429, errors.RateLimitError),
        (499, errors.APIError),
        (500, errors.ServerError),
        (502, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[errors.APIError]) -> None:
    response = reply(status, envelope("some_type", "words", session_id="s"), retry_after="7")
    error = parse_error(response, now=NOW, job=JOB)

    assert kind is type(error)
    assert (status, "some_type", "words", 7.0, {"session_id": "s"}, JOB) == (
        error.status_code,
        error.error_type,
        error.message,
        error.retry_after,
        error.details,
        error.job,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad Gateway</html>",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"error"',
        {},
        {"error": None},
        {"error": "it broke"},
        {"error": ["message", "type"]},
        {"error": {}},
        {"error": {"message": "m"}},
        {"error": {"type": "t"}},
        {"error": {"message": "m", "type": None}},
        {"error": {"message": 5, "type": "t"}},
        {"message": "m", "type": "t"},
        b'{"error": {"message": "m", "type": "t"}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_undocumented_body_gives_no_type(body: Any) -> None:
    """Without the documented body, the response may be that of a gateway."""
    error = parse_error(reply(502, body), now=NOW, job=None)

    assert error.error_type is None
    assert "(no documented error body)" == error.message
    assert {} == error.details


@pytest.mark.parametrize("status", [400, 502])
def test_error_body_that_was_not_read_proves_nothing(status: int) -> None:
    whole = reply(status, envelope("bad_gateway", "m"))
    error = parse_error(attrs.evolve(whole, unread="is too large"), now=NOW, job=None)

    assert error.error_type is None


def test_success_that_was_not_read_says_why() -> None:
    unread = attrs.evolve(reply(200), unread="is larger than 5 bytes", host="api.example")
    with pytest.raises(errors.InvalidResponseError) as caught:
        read_json(unread, now=NOW, job=JOB)

    assert "the response from api.example for job req-1 is larger than 5 bytes" == str(
        caught.value
    )
    assert (JOB, b"") == (caught.value.job, caught.value.body)


def test_empty_texts_are_still_a_documented_body() -> None:
    error = parse_error(reply(400, envelope("", "")), now=NOW, job=None)

    assert "" == error.error_type
    assert "(no documented error body)" == error.message


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("120", 120.0), ("Wed, 18 Jun 2025 15:06:50 GMT", 3590.0 - 3580.0), ("soon", None)],
)
def test_retry_after_has_two_forms(header: str, seconds: float | None) -> None:
    now = 1750259200.0  # 15:06:40 GMT
    error = parse_error(reply(429, b"", retry_after=header), now=now, job=None)

    assert seconds == error.retry_after


def test_json_of_a_success_is_returned() -> None:
    assert {"a": [1]} == read_json(reply(299, {"a": [1]}), now=NOW, job=None)
    assert {"a": [1]} == read_json(reply(200, {"a": [1]}), now=NOW, job=JOB)


@pytest.mark.parametrize("status", [400, 599])
def test_error_status_raises_its_error(status: int) -> None:
    with pytest.raises(errors.APIError) as caught:
        read_json(reply(status, envelope("t", "m")), now=NOW, job=JOB)

    assert (status, "t", JOB) == (
        caught.value.status_code,
        caught.value.error_type,
        caught.value.job,
    )


@pytest.mark.parametrize("status", [100, 199, 300, 302, 399])
def test_redirect_is_not_followed_and_names_its_target(status: int) -> None:
    response = reply(status, {"a": 1}, location="https://evil.example/\x1b[2J")
    with pytest.raises(errors.InvalidResponseError) as caught:
        read_json(response, now=NOW, job=JOB)

    assert f"unexpected HTTP {status} for job req-1" in str(caught.value)
    assert "a redirect to https://evil.example/ [2J, which is not followed" in str(caught.value)
    assert "check base_url" in str(caught.value)
    assert (JOB, response.body) == (caught.value.job, caught.value.body)


def test_unexpected_status_without_a_location_is_no_redirect() -> None:
    with pytest.raises(
        errors.InvalidResponseError, match="unexpected HTTP 304: check base_url"
    ):
        read_json(reply(304), now=NOW, job=None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 100_000, b'{"a": 1} {}'])
def test_unreadable_json_keeps_its_bytes(body: bytes) -> None:
    with pytest.raises(
        errors.InvalidResponseError, match="for job req-1 could not be"
    ) as caught:
        read_json(reply(200, body), now=NOW, job=JOB)

    assert body[: 64 * 1024] == caught.value.body
    assert JOB == caught.value.job


def test_last_duplicate_key_counts() -> None:
    assert {"a": 2} == read_json(reply(200, b'{"a": 1, "a": 2}'), now=NOW, job=None)


def test_bodies_in_errors_are_bounded() -> None:
    assert b"x" * 65536 == shown(reply(200, b"x" * 70000))


@given(replies)
@example(reply(200, b'{"a": "\\ud800"}', location="\ud800"))
def test_any_reply_is_json_or_one_of_our_errors(response: Reply) -> None:
    ours = (errors.APIError, errors.InvalidResponseError)
    found = value_or_error(lambda: read_json(response, now=NOW, job=JOB), *ours)
    if isinstance(found, ours):
        assert str(found).encode()
        assert JOB == found.job


@given(wild_json)
def test_any_server_text_can_be_shown_and_stored(value: Any) -> None:
    text = as_text(value, 50)

    assert text == text.encode().decode()
    assert len(text) <= 50
    assert not text or text.isprintable()


@given(wild_text)
def test_unpaired_surrogates_become_question_marks(text: str) -> None:
    plain = as_utf8(text)

    assert plain.encode().decode() == plain
    assert len(text) == len(plain)
    assert all(
        a == b or (b == "?" and "\ud800" <= a <= "\udfff")
        for a, b in zip(text, plain, strict=True)
    )


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        ("", ""),
        ("quota\x1b[2J\nhit", "quota [2J hit"),
        ("a\u202eb\ud800", "a b?"),
        ({"code": 5}, '{"code": 5}'),
        ([1, None], "[1, null]"),
        (False, "false"),
        (b"x", "\"b'x'\""),
        ({(1, 2): 3}, "(a dict that cannot be shown)"),
        pytest.param(10**5000, "(a int that cannot be shown)", id="huge"),
        ("x" * 3000, "x" * 2000),
    ],
)
def test_server_values_become_printable_text(value: Any, expected: str) -> None:
    assert expected == as_text(value)


def test_beginning_of_a_large_value_is_enough() -> None:
    class Odd:
        def __str__(self) -> str:
            raise AssertionError("it is behind the limit")

    assert '["aaaaaaaa' == as_text(["a" * 1000, Odd()], 10)


def test_deeply_nested_values_are_described() -> None:
    assert "(a list that cannot be shown)" == as_text(_nested(200_000))


def test_bodies_stay_out_of_reprs() -> None:
    assert "PAID" not in repr(reply(200, b"PAID"))
    assert "PROMPT" not in repr(Call("POST", "/v1", b"PROMPT"))
