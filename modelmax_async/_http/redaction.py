"""Removing the key from responses: servers quote what they were sent."""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_right
from http import HTTPStatus
from itertools import islice

import attrs

from modelmax_async._api.bounded_json import parse
from modelmax_async._api.messages import Reply
from modelmax_async._api_key import HIDDEN, ApiKey
from modelmax_async._http.exchange import Exchange
from modelmax_async._spellings import Search

#: The most escapes, and occurrences of the key between them, that are read one by one, which
#: takes a few milliseconds. A string with the key that exceeds this is replaced as a whole.
_MOST_WORK = 20_000
_READER = json.JSONDecoder()
#: Bytes of a body that takes milliseconds to read.
_LONG = 1024 * 1024
#: What is one character of a string of JSON: the two halves of a large one are combined.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)"
)


async def answer_quietly(exchange: Exchange, reply: Reply, key: ApiKey) -> Reply:
    """Note a response as the answer of an exchange, and return it, both without the key.

    What is done with a long body takes tens of milliseconds, with pauses for the event loop.
    """
    exchange.answer(reply)  # so that it is not lost, whatever happens next
    is_long, is_json = len(reply.body) > _LONG, None
    try:
        if is_long:
            await _pause()
            is_json = _is_json(reply.body)
            await _pause()
    finally:  # also if the client is closed meanwhile
        exchange.answer(clean := quiet(reply, key, is_json=is_json))
    if is_long:
        await _pause()
    return clean


async def _pause() -> None:
    """Let the event loop run what is due: timers are in its second turn from here."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def quiet(reply: Reply, key: ApiKey, *, is_json: bool | None = None) -> Reply:
    """Return a response without the key, because errors, values and ledgers show what it says.

    Only the key is replaced, in any spelling. The rest stays as it is written, so that JSON
    within the bounds of `parse` is still within them. ``is_json`` is whether the body is such,
    if that is known.
    """
    headers = reply.headers
    if reply.status >= HTTPStatus.MULTIPLE_CHOICES:
        headers = {name: key.hide_in(value) for name, value in headers.items()}
    return attrs.evolve(reply, headers=headers, body=_without(key, reply.body, is_json=is_json))


def _without(key: ApiKey, body: bytes, *, is_json: bool | None) -> bytes:
    encoding: str = json.detect_encoding(body)
    search = key.search()
    if encoding.startswith("utf-8"):
        if not key.may_be_in(body):
            return body
        encoding = "latin-1"  # any bytes can be read and written with it, and ASCII stays ASCII
    if search is None:
        return body
    if _is_json(body) if is_json is None else is_json:
        text = body.decode(encoding, "surrogatepass")
        clean = _without_in_strings(text, search)
    else:
        text = body.decode(encoding, "replace")
        clean = key.hide_in(text)
    return body if clean == text else clean.encode(encoding, "surrogatepass")


def _is_json(body: bytes) -> bool:
    """Whether a body is JSON within the bounds of `parse`."""
    try:
        parse(body)
    except ValueError:
        return False
    return True


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
