"""The JSON of responses, bounded by its structure before it is parsed.

The standard parser holds the interpreter until it is done, so that not even a thread keeps the
event loop running: 8 MiB of empty lists take it a second. The bounds are far above any real
response, which has dozens of values or one long string. They are constants, because they decide
what counts as a readable result: every process that shares a ledger must decide alike.
"""

from __future__ import annotations

import json
from typing import Any

#: The most brackets, commas and colons, those inside strings included.
MAX_STRUCTURE = 10_000
#: The most backslashes: each escape makes a string slower to read. PHP and C# escape about two
#: characters in 64 of the base64 of a video.
MAX_ESCAPES = 500_000
#: The most characters of an integer: to read one takes time that grows with their square. A
#: longer one is read as the float that it is in other languages: an infinite one.
MAX_DIGITS = 309
#: The most levels of lists and objects: what is nested deeper cannot be pickled or copied.
MAX_DEPTH = 64


def text_of(body: bytes) -> str:
    """Return the text of a JSON body, which may be UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: if it is none of these.
    """
    return body.decode(json.detect_encoding(body), "surrogatepass")


def parse(body: bytes) -> Any:
    """Return what a JSON body holds.

    Raises:
        ValueError: if it is not JSON, or is beyond one of the bounds.
    """
    text = text_of(body)
    if len(text) > MAX_STRUCTURE:
        _check_structure(text)
    try:
        data = _DECODER.decode(text)
        deep = len(text) > 2 * MAX_DEPTH and _is_deep(data)  # each level has two brackets
    except RecursionError:
        deep = True
    if deep:
        raise ValueError(f"the JSON is nested more than {MAX_DEPTH} levels deep")
    return data


def _check_structure(text: str) -> None:
    left = MAX_STRUCTURE
    for mark in "[{,:":
        at = text.find(mark)  # where there is none, ten times faster than to count them
        while at >= 0:
            left -= 1
            if left < 0:
                raise ValueError(
                    f"the JSON has more than {MAX_STRUCTURE} brackets, commas and colons"
                )
            at = text.find(mark, at + 1)
    if "\\" in text and text.count("\\") > MAX_ESCAPES:
        raise ValueError(f"the JSON has more than {MAX_ESCAPES} backslashes")


def _is_deep(data: Any) -> bool:
    level = [data]
    for _ in range(MAX_DEPTH):
        level = [inner for each in level for inner in _items(each)]
    return any(isinstance(each, dict | list) for each in level)


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _integer(text: str) -> float:
    return int(text) if len(text) <= MAX_DIGITS else float(text)


_DECODER = json.JSONDecoder(parse_int=_integer)
