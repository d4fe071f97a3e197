"""Range requests: validators, ``Content-Range``, and which partial responses are joined."""

from __future__ import annotations

import pytest

from modelmax_async._download.part_names import ResumeInfo
from modelmax_async._download.ranges import (
    ContentRange,
    continuation,
    range_headers,
    read_content_range,
    read_length,
    resume_info_of,
)

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
def test_only_strong_validators_make_resume_info(
    headers: dict[str, str], expected: str | None
) -> None:
    resume_info = resume_info_of(headers, "s", 7)

    assert (resume_info.validator if resume_info else None) == expected


def test_range_is_requested_with_if_range() -> None:
    resume_info = ResumeInfo("s", '"a"', 9)

    assert {"range": "bytes=4-", "if-range": '"a"'} == range_headers(resume_info, 4)
    assert {} == range_headers(resume_info, 0)
    assert {} == range_headers(None, 4)


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
def test_partial_response_is_joined_only_if_everything_matches(
    change: dict[str, str], *, expected: bool
) -> None:
    headers = {"content-range": "bytes 4-8/9", "etag": '"a"'} | change

    found = continuation(headers, ResumeInfo("s", '"a"', 9), 4)

    assert expected == (found is not None)


def test_partial_response_must_repeat_a_date_validator() -> None:
    resume_info = ResumeInfo("s", EARLIER, None)

    piece = {"content-range": "bytes 4-8/9"}

    assert continuation({"content-range": "bytes 4-8/*"}, resume_info, 4) is None
    assert ContentRange(4, 9, 9) == continuation(
        piece | {"last-modified": EARLIER}, resume_info, 4
    )
    assert continuation(piece | {"last-modified": LATER}, resume_info, 4) is None


def test_content_length_must_be_a_number() -> None:
    assert 12 == read_length({"content-length": "12"})
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
