"""Names of video files: made of request id, index and a known suffix, never by the server.

A video is named ``<id>-<index>.mp4``, or has the suffix of another container. An id of at most
40 lower-case letters, digits, ``-`` and ``_`` is used as it is. Any other is cleaned, cut, and
followed by a dot and 128 bits of its SHA-256, so that no two ids share a name, even where ``A``
and ``a`` name the same file. No name leaves the directory, is reserved on any system, or
exceeds 255 bytes.
"""

from __future__ import annotations

import hashlib
import re

from modelmax_async._download.containers import MP4

_LONGEST_ID = 40
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_MOST_VIDEOS = 1_000_000


def file_name(request_id: str, index: int) -> str:
    """Return the name of a video's file.

    Raises:
        ValueError: for an index that no result has.
    """
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < _MOST_VIDEOS:
        allowed = f"an integer from 0 to {_MOST_VIDEOS - 1}"
        raise ValueError(f"the index of a video must be {allowed}, got {index!r}")
    return f"{_stem(request_id)}-{index}.{MP4}"


def _stem(request_id: str) -> str:
    if _PLAIN.fullmatch(request_id) and len(request_id) <= _LONGEST_ID:
        return request_id
    clean = _UNSAFE.sub("_", request_id)[:_LONGEST_ID].strip("-_") or "video"
    return f"{clean}.{_digest(request_id)[:32]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
