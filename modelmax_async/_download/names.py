"""File names: made of the request id, the index and a known suffix, never by the server.

A video is named ``<id>-<index>.mp4``, or has the suffix of another container. An id of at most
40 lower-case letters, digits, ``-`` and ``_`` is used as it is. Any other is cleaned, cut, and
followed by a dot and 128 bits of its SHA-256, so that no two ids share a name, even where ``A``
and ``a`` name the same file. No name leaves the directory, is reserved on any system, or
exceeds 255 bytes.

An incomplete video is named ``<name>.part``, or ``<name>.<resume info>.part`` with all that a
later download needs in order to resume it: a digest of the URL, the whole length, the validator
for ``If-Range``, and the suffix of a declared video. ``<name>`` ends in ``.mp4`` whatever the
container, so that two writers meet before either knows the container. A file without resume
info is started over. If it had some before, its name is ``<name>.0.part``, since only a newly
created file may be named ``<name>.part``.
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
_RESUME_INFO = re.compile(
    r"([0-9a-f]{16})-([0-9]{1,20})-((?:[0-9a-f]{2})+)(?:-([0-9a-z]+))?", re.ASCII
)
_MOST_VIDEOS = 1_000_000


@attrs.frozen
class ResumeInfo:
    """Which version of which video the bytes of a ``.part`` belong to."""

    source: str  # `source_digest` of the URL
    validator: str  # a strong entity tag, quotes included, or else a Last-Modified date
    total: int | None  # bytes of the whole video, `None` where the server did not say
    suffix: str | None = None  # of a declared video of known length; `None`: an MP4


def file_name(request_id: str, index: int) -> str:
    """Return the name of a video's file.

    Raises:
        ValueError: for an index that no result has.
    """
    if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < _MOST_VIDEOS:
        allowed = f"an integer from 0 to {_MOST_VIDEOS - 1}"
        raise ValueError(f"the index of a video must be {allowed}, got {index!r}")
    return f"{_stem(request_id)}-{index}.{MP4}"


def source_digest(url: str) -> str:
    """Return a digest of a video's URL without its query, where signatures change."""
    return _digest(url.split("?", maxsplit=1)[0])[:16]


def part_name(name: str, info: ResumeInfo | None) -> str:
    """Return the name of the ``.part`` of ``name``."""
    if info is None:
        return f"{name}.part"
    suffix = "" if info.suffix is None else f"-{info.suffix}"
    validator = info.validator.encode().hex()
    return f"{name}.{info.source}-{info.total or 0}-{validator}{suffix}.part"


def reset_name(name: str) -> str:
    """Return the name of a ``.part`` whose resume info no longer applies."""
    return f"{name}.0.part"


def is_part(name: str, entry: str) -> bool:
    """Return whether a directory's entry is a ``.part`` of ``name``."""
    if not (entry.startswith(f"{name}.") and entry.endswith(".part")):
        return False
    bare = {part_name(name, None), reset_name(name)}
    return entry in bare or read_resume_info(name, entry) is not None


def read_resume_info(name: str, entry: str) -> ResumeInfo | None:
    """Return the resume info in the name of a ``.part``, ``None`` where it has none."""
    found = _RESUME_INFO.fullmatch(entry.removeprefix(f"{name}.").removesuffix(".part"))
    if found is None:
        return None
    validator = bytes.fromhex(found[3]).decode("latin-1")
    if not (validator.isascii() and validator.isprintable()):
        return None  # not a name of ours, and it would be sent in a header
    if found[4] is not None and found[4] not in SUFFIXES:
        return None  # not a name of ours, and it would become part of the video's name
    return ResumeInfo(found[1], validator, int(found[2]) or None, found[4])


def _stem(request_id: str) -> str:
    if _PLAIN.fullmatch(request_id) and len(request_id) <= _LONGEST_ID:
        return request_id
    clean = _UNSAFE.sub("_", request_id)[:_LONGEST_ID].strip("-_") or "video"
    return f"{clean}.{_digest(request_id)[:32]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
