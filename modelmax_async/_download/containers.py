"""What a Content-Type says about a body: a video and its container, an error page, or nothing.

A video was paid for, and so is saved whatever its container is. Its suffix is one of a fixed
list and never the server's own words: a later call must find the file again without mistaking
a ``.txt`` or a ``.jpg`` of the user's for it.
"""

from __future__ import annotations

import re

#: The suffix of a video whose Content-Type says nothing that can be relied on.
MP4 = "mp4"
#: The suffix of a ``video/*`` type that is not listed below.
OTHER = "video"
_KNOWN = {
    "video/3gpp": "3gp",
    "video/3gpp2": "3g2",
    "video/matroska": "mkv",
    "video/mp2t": "ts",
    "video/mp4": MP4,
    "video/mpeg": "mpg",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-m4v": "m4v",
    "video/x-matroska": "mkv",
    "video/x-ms-wmv": "wmv",
    "video/x-msvideo": "avi",
}
#: Every suffix that a video can have, in the order in which a directory is searched.
SUFFIXES = (MP4, *sorted({*_KNOWN.values()} - {MP4}), OTHER)
_VIDEO = re.compile(r"video/[a-z0-9!#$&^_.+-]+", re.ASCII)
# Plain text is not among them: some servers send any file they do not know as text/plain.
# It has to be a complete MP4, as a body of every other type that is not a video's.
_PAGE = re.compile(r"text/(html|xml)|application/(json|xml)|[^/]+/.*\+(json|xml)")


def media_type(text: str) -> str:
    """Return the type of a Content-Type, in lower case and without its parameters."""
    return text.partition(";")[0].strip().lower()


def suffix_of(kind: str) -> str | None:
    """Return the suffix for a media type, without its dot; ``None`` if it is no video's."""
    return _KNOWN.get(kind, OTHER) if _VIDEO.fullmatch(kind) else None


def is_page(kind: str) -> bool:
    """Whether a media type is that of an error page, or of an error in JSON or XML."""
    return _PAGE.fullmatch(kind) is not None
