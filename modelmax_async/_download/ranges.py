"""Resuming an interrupted transfer (RFC 9110, 13.1.5 and 14): which bytes may be joined.

Two pieces are joined only where the server shows that they belong together: by a strong
validator that both carry, by the requested offset, and by one total length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import attrs

from modelmax_async._download.part_names import LONGEST_VALIDATOR, ResumeInfo

_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20}|\*)", re.ASCII)
#: Seconds by which a Last-Modified date must precede the response to be a strong validator.
_SETTLED = 60.0


@attrs.frozen
class ContentRange:
    """The ``Content-Range`` of a 206: offsets in bytes, of which ``end`` is exclusive."""

    start: int
    end: int
    total: int | None


def read_content_range(headers: Mapping[str, str]) -> ContentRange | None:
    """Return the ``Content-Range``, ``None`` where it is missing or malformed."""
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return None
    total = None if found[3] == "*" else int(found[3])
    return ContentRange(int(found[1]), int(found[2]) + 1, total)


def read_length(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length in bytes, ``None`` where it is missing or malformed."""
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch("[0-9]{1,20}", text, re.ASCII) else None


def resume_info_of(
    headers: Mapping[str, str], source: str, total: int | None, suffix: str | None = None
) -> ResumeInfo | None:
    """Return the resume info of a 200, ``None`` where its body cannot be resumed later."""
    tag = headers.get("etag", "")
    if _TAG.fullmatch(tag) and len(tag) <= LONGEST_VALIDATOR:
        return ResumeInfo(source, tag, total, suffix)
    date = headers.get("last-modified", "")
    plain = (
        date.isascii() and date.isprintable()
    )  # without a tab: it is read from a file's name
    if plain and len(date) <= LONGEST_VALIDATOR and _is_strong(date, headers):
        return ResumeInfo(source, date, total, suffix)
    return None


def range_headers(info: ResumeInfo | None, offset: int) -> dict[str, str]:
    """Return the headers that request the bytes from ``offset``, if they are unchanged."""
    if info is None or offset == 0:
        return {}
    return {"range": f"bytes={offset}-", "if-range": info.validator}


def continuation(
    headers: Mapping[str, str], info: ResumeInfo, offset: int
) -> ContentRange | None:
    """Return the range of a 206, ``None`` unless its body continues at ``offset``."""
    found = read_content_range(headers)
    continues = (
        found is not None
        and offset == found.start < found.end
        and read_length(headers) in {None, found.end - offset}
        and info.total in {None, found.total}
        and _same_validator(headers, info)
    )
    return found if continues else None


def _same_validator(headers: Mapping[str, str], info: ResumeInfo) -> bool:
    """Return whether the 206 carries the validator of the first piece.

    A 206 need not repeat a date. But a server that ignores ``If-Range`` does not either, and
    starting over costs less than a file of two versions.
    """
    tag = info.validator.startswith('"')
    return headers.get("etag" if tag else "last-modified") == info.validator


def _is_strong(date: str, headers: Mapping[str, str]) -> bool:
    """Return whether a Last-Modified date is old enough to be a strong validator (8.8.2.2)."""
    try:
        then = parsedate_to_datetime(date)
        now = parsedate_to_datetime(headers.get("date", ""))
        return (now - then).total_seconds() >= _SETTLED
    except (ValueError, TypeError, OverflowError):
        return False
