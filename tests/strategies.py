"""Hypothesis strategies and small values that several test modules share."""

from __future__ import annotations

import json
import unicodedata
from base64 import b64decode
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import strategies as st

from modelmax_async import Job
from modelmax_async._api.messages import Reply
from modelmax_async._api.paths import make_job

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

JOB = make_job("veo-3", "req-1")
NOW = 1_750_000_000.0

#: An image of one pixel, as base64 and as bytes.
PNG_TEXT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJg"
    "gg=="
)
PNG = b64decode(PNG_TEXT)

#: Ids that are awkward in a URL, and must stay one intact path segment.
AWKWARD_IDS = [
    "a/b",
    "a+b",
    "YWJj==",
    "a?b=c",
    "a#b",
    "100%",
    "%2e%2e",
    "é€😀",
    "a b",
    "a\\b",
    "...",
    "a;b,c&d",
    "x" * 4096,
]

#: Values that are not a valid id, each with a phrase of its error.
HOSTILE_IDS = [
    ("", "must be non-empty"),
    (".", "path segment"),
    ("..", "path segment"),
    ("a\nb", "control character"),
    ("a\x00", "control character"),
    ("a\x7f", "control character"),
    ("a\x85", "control character"),
    ("a\ud800", "control character"),
    ("x" * 4097, "at most 4096"),
    (None, "got NoneType"),
    (5, "got int"),
    (b"id", "got bytes"),
]


def _is_segment(text: str) -> bool:
    hostile = any(unicodedata.category(c) in {"Cc", "Cs"} for c in text)
    return text not in {"", ".", ".."} and not hostile


segments = st.text(max_size=40).filter(_is_segment)
_paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
jobs = st.builds(
    Job,
    segments,
    segments,
    _paths,
    _paths,
    st.none() | st.floats(0, 4e9),
)

#: JSON as servers may send it, with unpaired surrogates, NaN and huge numbers.
wild_text = st.text(st.characters(exclude_categories=()), max_size=30)
wild_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | wild_text,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)

_words = st.sampled_from(["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "PAUSED", ""])
_items = st.fixed_dictionaries({}, optional={"url": wild_json, "index": wild_json})
_envelopes = st.fixed_dictionaries({}, optional={"message": wild_json, "type": wild_json})

#: Objects with the keys of the API and arbitrary values.
near_bodies = st.fixed_dictionaries(
    {},
    optional={
        "request_id": wild_json | segments,
        "status": _words | wild_json,
        "status_url": wild_json,
        "response_url": wild_json,
        "model": wild_json,
        "data": st.lists(_items, max_size=3) | wild_json,
        "usage": wild_json,
        "error": _envelopes | wild_json,
        "surprise": wild_json,
    },
)
bodies = st.one_of(
    st.binary(max_size=200),
    wild_json.map(lambda value: json.dumps(value).encode()),
    near_bodies.map(lambda value: json.dumps(value).encode()),
    st.integers(0, 3000).map(lambda depth: b'{"status": ' + b"[" * depth + b"]" * depth + b"}"),
)
headers = st.dictionaries(
    st.sampled_from(["content-encoding", "retry-after", "location", "content-type"]),
    st.text(max_size=20)
    | st.sampled_from(
        ["gzip", "deflate", "br", "identity", "120", "Wed, 21 Oct 2026 07:28:00"]
    ),
)
replies = st.builds(Reply, st.sampled_from([200, 202]) | st.integers(100, 999), headers, bodies)


def reply(
    status: int, content: Any = b"", *, kept_at: str | None = None, **headers: str
) -> Reply:
    """Return a reply: bytes unchanged, others as JSON; ``_`` in a header name is ``-``."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, body, kept_at)


def value_or_error(call: Callable[[], T], *errors: type[E]) -> T | E:
    """Return what a call returns or which of these errors it raises; others fail the test."""
    try:
        return call()
    except errors as exc:
        return exc


def envelope(kind: str = "bad_gateway", message: str = "it broke", **more: Any) -> Any:
    """Return the documented error body (API §5)."""
    return {"error": {"message": message, "type": kind, **more}}


def completed(*urls: str, **more: Any) -> Any:
    """Return the documented paid response (API §3)."""
    return {
        "status": "COMPLETED",
        "model": "veo-3",
        "data": [{"url": url} for url in urls or ("/v1/content/0",)],
        "usage": {
            "video_seconds": 8,
            "video_resolution": "720p",
            "video_has_audio": True,
        },
        **more,
    }
