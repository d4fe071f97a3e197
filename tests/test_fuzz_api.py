"""Fuzzing of the wire format: any response gives a value or one of our errors."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import attrs
from corpora import damaged, each_of, fuzzed
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import JOB, NOW, completed, envelope, near_bodies, replies, value_or_error

from modelmax_async import APIError, InvalidResponseError, Result, Status
from modelmax_async._api.endpoints import (
    is_readable,
    parse_result,
    parse_status,
    parse_submit,
    result_status,
)
from modelmax_async._api.messages import (
    LONGEST_RETRY_AFTER,
    Reply,
    parse_error,
    parse_retry_after,
)

FREE = {Status.IN_QUEUE, Status.IN_PROGRESS, Status.FAILED}
SUBMITTED = {
    "request_id": JOB.request_id,
    "status": "IN_QUEUE",
    "status_url": JOB.status_url,
    "response_url": JOB.response_url,
}
VALID = [
    json.dumps(value).encode()
    for value in (
        SUBMITTED,
        {"request_id": JOB.request_id, "status": "IN_PROGRESS"},
        {"request_id": JOB.request_id, "status": "FAILED", "error": "no quota"},
        completed(request_id=JOB.request_id),
        envelope(session_id="s", amount=5),
    )
]
PARSERS: list[Callable[[Reply], object]] = [
    lambda reply: parse_submit(reply, "veo-3", now=NOW),
    lambda reply: parse_status(reply, JOB, now=NOW),
    lambda reply: parse_result(reply.body, JOB),
    lambda reply: parse_error(reply, now=NOW, job=JOB),
    lambda reply: result_status(reply, JOB),
]
any_text = st.text(st.characters(exclude_categories=()), max_size=40)
any_headers = st.dictionaries(
    st.sampled_from(["content-encoding", "retry-after", "date", "location"]), any_text
)
any_reply = replies | st.builds(
    Reply,
    st.sampled_from([200, 202, 302, 400, 402, 429, 502]),
    any_headers,
    damaged(*VALID) | near_bodies.map(lambda body: json.dumps(body).encode()),
)


def check(reply: Reply) -> None:
    """Check what every parser makes of a response."""
    for parse in PARSERS:
        found = value_or_error(lambda: parse(reply), APIError, InvalidResponseError)  # noqa: B023 - called at once
        if isinstance(found, Exception):
            assert str(found).isprintable()
        assert repr(found) == repr(pickle.loads(pickle.dumps(found)))
        if isinstance(found, Result):
            stored = json.loads(json.dumps(found.to_dict()))
            assert repr(found) == repr(Result.from_dict(stored))
            assert list(range(len(found.videos))) == [video.index for video in found.videos]
            assert all(video.url.encode() for video in found.videos)
    check_money(reply)


def check_money(reply: Reply) -> None:
    """Check that no body with a paid result is taken for one that was not billed."""
    if reply.headers.get("content-encoding") is None and is_readable(reply.body, JOB):
        assert Status.COMPLETED == result_status(reply, JOB)[0]
    if result_status(reply)[0] in FREE and "content-encoding" not in reply.headers:
        body = json.loads(reply.body)
        assert not body.get("data")
        assert not body.get("usage")


@fuzzed
@given(any_reply)
def test_any_response_is_a_value_or_one_of_our_errors(reply: Reply) -> None:
    check(reply)


@each_of("api")
def test_kept_body_is_a_value_or_one_of_our_errors(data: bytes) -> None:
    for status in (200, 202, 302, 402, 502):
        check(Reply(status, {}, data))
        check(Reply(status, {"content-encoding": "gzip", "location": "/\u202e\n"}, data))


seconds = st.integers().map(str) | st.text("0123456789²٣ +-._eE", max_size=30)
_token = st.sampled_from(
    [
        "Mon,",
        "Mon",
        "21",
        "Oct",
        "Feb",
        "30",
        "2026",
        "0",
        "9999",
        "10000",
        "99999999999",
        "0001",
        "68",
        "69",
        "07:28:00",
        "07:28",
        "7.28.00",
        "24:61:61",
        "GMT",
        "+0000",
        "-2400",
        "+9999",
        "-0001",
        "EST",
        "Z",
        "+",
        "-",
        ":",
        "::",
        ",",
        ".",
        "\u0663",
        "\xb2",
        "0x10",
        "(c)",
        "00",
    ]
)
dates = st.builds(
    lambda tokens, between: between.join(tokens),
    st.lists(_token, max_size=9),
    st.sampled_from([" ", "-", "", ", "]),
)
header = st.none() | any_text | dates | seconds


def check_seconds(found: float | None) -> None:
    assert found is None or 0 <= found <= LONGEST_RETRY_AFTER


@fuzzed
@given(header, header, st.floats(-1e12, 1e12))
@example("9" * 10_000, None, NOW)
@example("Mon, 01 Jan 0001 00:00:00 +2359", "Fri, 31 Dec 9999 23:59:59 -2359", NOW)
def test_any_retry_after_is_bounded_or_none(
    value: str | None, date: str | None, now: float
) -> None:
    check_seconds(parse_retry_after(value, now, date))


@each_of("retry_after")
def test_kept_retry_after_is_bounded_or_none(data: bytes) -> None:
    text = data.decode()
    check_seconds(parse_retry_after(text, NOW))
    check_seconds(parse_retry_after(text, NOW, text))
    check_seconds(parse_retry_after("Tue, 18 Nov 2025 07:28:00 GMT", NOW, text))


_json: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@fuzzed
@given(st.dictionaries(any_text, _json, max_size=3), st.lists(any_text, min_size=1))
def test_paid_result_is_readable_whatever_else_it_says(
    more: dict[str, Any], urls: list[str]
) -> None:
    """An unknown field, or an odd one that is not needed, must not cost a paid result."""
    body = more | completed(*urls, request_id=JOB.request_id)
    result = parse_result(json.dumps(body).encode(), JOB)

    assert len(urls) == len(result.videos)
    assert attrs.evolve(result, raw={}) == pickle.loads(
        pickle.dumps(attrs.evolve(result, raw={}))
    )
