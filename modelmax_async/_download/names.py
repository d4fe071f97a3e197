"""File names: made of the request id, the index and a known suffix, not of a server's words.

The video is ``<id>-<index>.mp4``, or ends in the suffix of another container. An id of
lower-case letters, digits, ``-`` and ``_`` stands there as it is; any other is cleaned, cut,
and followed by a dot and 128 bits of its SHA-256, so that no two ids share a name, also where
``A`` and ``a`` are the same file. No name leaves the directory, is reserved anywhere, or
exceeds 255 bytes.

What is not complete is ``<name>.part``, or ``<name>.<mark>.part`` where the mark holds what a
later download needs to go on with these very bytes: a digest of the URL, the whole length, the
validator for ``If-Range``, and the suffix of a declared video. ``<name>`` ends in ``.mp4`` for
every container, so that two writers meet before either of them knows the container. Without a
mark it starts over; a file that lost its mark is ``<name>.0.part``, since only a new one may be
``<name>.part``.
"""

from __future__ import annotations

import hashlib
import re

import attrs

from modelmax_async._download.containers import MP4, SUFFIXES

#: Bytes of a validator that still fits into a file name, in hexadecimal.
LONGEST_VALIDATOR = 56
_LONGEST_ID = 40
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_MARK = re.compile(
    r"([0-9a-f]{16})-([0-9]{1,20})-((?:[0-9a-f]{2})+)(?:-([0-9a-z]+))?", re.ASCII
)
_MOST_VIDEOS = 1_000_000


@attrs.frozen
class Mark:
    """Which bytes a ``.part`` holds the beginning of.

    Args:
        source: digest of the URL, less its query.
        validator: a strong entity tag, quotes included, or else a Last-Modified date.
        total: bytes of the whole video, ``None`` where the server did not say.
        suffix: that of a declared video of known length, ``None`` where it must be an MP4.
    """

    source: str
    validator: str
    total: int | None
    suffix: str | None = None


def file_name(request_id: str, index: int) -> str:
    """Return the name of a video's file.

    Raises:
        ValueError: for an index that no result has.
    """
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < _MOST_VIDEOS:
        raise ValueError(f"the index of a video is a whole number from 0; not {index!r}")
    return f"{_stem(request_id)}-{index}.{MP4}"


def source_digest(url: str) -> str:
    """Return what tells one video's address from another's; signatures in queries change."""
    return _digest(url.split("?", maxsplit=1)[0])[:16]


def part_name(name: str, mark: Mark | None) -> str:
    """Return the name of the ``.part`` of ``name``."""
    if mark is None:
        return f"{name}.part"
    suffix = "" if mark.suffix is None else f"-{mark.suffix}"
    validator = mark.validator.encode().hex()
    return f"{name}.{mark.source}-{mark.total or 0}-{validator}{suffix}.part"


def void_name(name: str) -> str:
    """Return the name of a ``.part`` that had a mark, and now has bytes that nobody knows."""
    return f"{name}.0.part"


def is_part(name: str, entry: str) -> bool:
    """Whether a directory's entry is a ``.part`` of ``name``, with a mark or without."""
    if not (entry.startswith(f"{name}.") and entry.endswith(".part")):
        return False
    return entry in {part_name(name, None), void_name(name)} or bool(read_mark(name, entry))


def read_mark(name: str, entry: str) -> Mark | None:
    """Return the mark in the name of a ``.part``, ``None`` where there is none."""
    found = _MARK.fullmatch(entry.removeprefix(f"{name}.").removesuffix(".part"))
    if found is None:
        return None
    validator = bytes.fromhex(found[3]).decode("latin-1")
    if not (validator.isascii() and validator.isprintable()):
        return None  # nobody here wrote that, and it would go into a header
    if found[4] is not None and found[4] not in SUFFIXES:
        return None  # as above, and it would go into the video's name
    return Mark(found[1], validator, int(found[2]) or None, found[4])


def _stem(request_id: str) -> str:
    if _PLAIN.fullmatch(request_id) and len(request_id) <= _LONGEST_ID:
        return request_id
    clean = _UNSAFE.sub("_", request_id)[:_LONGEST_ID].strip("-_") or "video"
    return f"{clean}.{_digest(request_id)[:32]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
