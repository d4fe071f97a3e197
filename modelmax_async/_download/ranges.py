"""Going on with an interrupted transfer (RFC 9110, 13.1.5 and 14): what may be joined.

Two pieces are joined only where the server shows that they belong together: a strong
validator that both carry, the offset asked for, and one total length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from modelmax_async._download.names import LONGEST_VALIDATOR, Mark

_TAG = re.compile(r'"[\x21\x23-\x7e]*"')
_RANGE = re.compile(r"bytes ([0-9]{1,20})-([0-9]{1,20})/([0-9]{1,20}|\*)", re.ASCII)
#: Seconds that a date must lie back for two versions of one second to be told apart.
_SETTLED = 60.0


def read_length(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length in bytes, ``None`` where there is none to rely on."""
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch("[0-9]{1,20}", text, re.ASCII) else None


def mark_of(
    headers: Mapping[str, str], source: str, total: int | None, suffix: str | None = None
) -> Mark | None:
    """Return the mark of a 200's body, ``None`` where it cannot be gone on with later."""
    tag = headers.get("etag", "")
    if _TAG.fullmatch(tag) and len(tag) <= LONGEST_VALIDATOR:
        return Mark(source, tag, total, suffix)
    date = headers.get("last-modified", "")
    if date.isascii() and len(date) <= LONGEST_VALIDATOR and _settled(date, headers):
        return Mark(source, date, total, suffix)
    return None


def range_headers(mark: Mark | None, offset: int) -> dict[str, str]:
    """Return the headers that ask for the bytes from ``offset`` on, if they are the same."""
    if mark is None or offset == 0:
        return {}
    return {"range": f"bytes={offset}-", "if-range": mark.validator}


def whole_length(headers: Mapping[str, str]) -> int | None:
    """Return the length of the whole video that a 206 tells, ``None`` where it does not."""
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    return int(found[3]) if found is not None and found[3] != "*" else None


def range_end(headers: Mapping[str, str]) -> int | None:
    """Return the offset behind the last byte of a 206, ``None`` where it does not tell."""
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    return int(found[2]) + 1 if found is not None else None


def joins(headers: Mapping[str, str], mark: Mark, offset: int) -> bool:
    """Whether the body of a 206 continues the bytes of ``mark`` at ``offset``."""
    found = _RANGE.fullmatch(headers.get("content-range", "").strip())
    if found is None or int(found[1]) != offset or int(found[2]) < offset:
        return False
    length = read_length(headers)
    if length is not None and length != int(found[2]) - offset + 1:
        return False
    if mark.total is not None and found[3] != str(mark.total):
        return False
    return _same_validator(headers, mark)


def _same_validator(headers: Mapping[str, str], mark: Mark) -> bool:
    """Whether the 206 shows that it is of the same version.

    It need not repeat a date. But one from a server that ignores ``If-Range`` looks just
    like that, and a start over costs less than a file of two versions.
    """
    tag = mark.validator.startswith('"')
    return headers.get("etag" if tag else "last-modified") == mark.validator


def _settled(date: str, headers: Mapping[str, str]) -> bool:
    """Whether a Last-Modified date is old enough to be a strong validator (8.8.2.2)."""
    try:
        then = parsedate_to_datetime(date)
        now = parsedate_to_datetime(headers.get("date", ""))
        return (now - then).total_seconds() >= _SETTLED
    except (ValueError, TypeError, OverflowError):
        return False
