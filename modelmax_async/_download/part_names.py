"""Names of ``.part`` files, which carry all that a later download needs in order to resume.

An incomplete video is named ``<name>.part``, or ``<name>.<resume info>.part``: the resume info
is a digest of the URL, the whole length, the validator for ``If-Range``, and the suffix of a
declared video. ``<name>`` is the video's name; it ends in ``.mp4`` whatever the container, so
that two writers meet before either knows the container. A file without resume info is started
over. If it had some before, its name is ``<name>.0.part``, since only a newly created file may
be named ``<name>.part``.
"""

from __future__ import annotations

import hashlib
import re

import attrs

from modelmax_async._download.containers import SUFFIXES

#: Bytes of a validator that still fits into a file name, in hexadecimal.
LONGEST_VALIDATOR = 56
_LONGEST_URL = 16 * 1024
_RESUME_INFO = re.compile(
    r"([0-9a-f]{16})-([0-9]{1,20})-((?:[0-9a-f]{2})+)(?:-([0-9a-z]+))?", re.ASCII
)


@attrs.frozen
class ResumeInfo:
    """Which version of which video the bytes of a ``.part`` belong to."""

    source: str  # `source_digest` of the URL
    validator: str  # a strong entity tag, quotes included, or else a Last-Modified date
    total: int | None  # bytes of the whole video, `None` where the server did not say
    suffix: str | None = None  # of a declared video of known length; `None`: an MP4


def source_digest(url: str) -> str:
    """Return a digest of a video's URL without its query, where signatures change."""
    bare = url[:_LONGEST_URL].split("?", maxsplit=1)[0]  # only a data: URL is longer
    return hashlib.sha256(bare.encode("utf-8", "surrogatepass")).hexdigest()[:16]


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


#: The most characters that the name of a ``.part`` has in addition to the video's name.
LONGEST_PART_ENDING = len(
    part_name(
        "",
        ResumeInfo("0" * 16, "x" * LONGEST_VALIDATOR, 10**20 - 1, max(SUFFIXES, key=len)),
    )
)
