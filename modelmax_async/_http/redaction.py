"""Removing the key from responses: servers quote what they were sent."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from http import HTTPStatus
from itertools import islice

import attrs

from modelmax_async._api.bounded_json import parse
from modelmax_async._api.messages import Reply
from modelmax_async._api_key import HIDDEN, ApiKey
from modelmax_async._spellings import Search

#: The most escapes, and occurrences of the key between them, that are read one by one, which
#: takes a few milliseconds. A string with the key that exceeds this is replaced as a whole.
_MOST_WORK = 20_000
_READER = json.JSONDecoder()
#: What is one character of a string of JSON: the two halves of a large one are combined.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)


def quiet(reply: Reply, key: ApiKey) -> Reply:
    """Return a response without the key, because errors, values and ledgers show what it says.

    Only the key is replaced, in any spelling. The rest stays as it is written, so that JSON
    within the bounds of `parse` is still within them.
    """
    headers = reply.headers
    if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
        headers = {name: key.hide_in(value) for name, value in headers.items()}
    return attrs.evolve(reply, headers=headers, body=_without(key, reply.body))


def _without(key: ApiKey, body: bytes) -> bytes:
    encoding: str = json.detect_encoding(body)
    search = key.search()
    if encoding.startswith("utf-8"):
        if not key.may_be_in(body):
            return body
        encoding = "latin-1"  # any bytes can be read and written with it, and ASCII stays ASCII
    if search is None:
        return body
    try:
        parse(body)
    except ValueError:
        text = body.decode(encoding, "replace")
        clean = key.hide_in(text)
    else:
        text = body.decode(encoding, "surrogatepass")
        clean = _without_in_strings(text, search)
    return body if clean == text else clean.encode(encoding, "surrogatepass")


def _without_in_strings(text: str, search: Search) -> str:
    """Return the text of JSON with the key replaced in its strings."""
    parts: list[str] = []
    done = end = 0
    left = _MOST_WORK
    while (start := text.find('"', end)) >= 0:
        said, end = _READER.raw_decode(text, start)
        if (finder := search.finder(said)) is None:
            continue
        written = text[start + 1 : end - 1]
        if written == said:
            clean = finder.sub(HIDDEN, said)
        elif spans := [found.span() for found in islice(finder.finditer(said), max(left, 1))]:
            left -= len(spans) + written.count("\\")
            clean = _replaced(written, spans) if left > 0 else HIDDEN
        else:
            continue
        parts += (text[done : start + 1], clean)
        done = end - 1
    return "".join([*parts, text[done:]])


def _replaced(written: str, spans: list[tuple[int, int]]) -> str:
    """Return how a string of JSON is written, with some spans of what it says replaced."""
    ends, shifts = [0], [0]  # how far what is written is ahead of what it says, from where on
    for escape in _ESCAPE.finditer(written):
        shifts.append(shifts[-1] + len(escape[0]) - 1)
        ends.append(escape.end() - shifts[-1])
    parts: list[str] = []
    done = 0
    for span in spans:
        start, end = (at + shifts[bisect_right(ends, at) - 1] for at in span)
        parts += (written[done:start], HIDDEN)
        done = end
    return "".join([*parts, written[done:]])
