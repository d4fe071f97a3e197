"""The container of a video, judged by its Content-Type.

A video is paid for, and so is saved whatever its container is. Its suffix is taken from a fixed
list, never from the server: a later call must find the file again, and must not mistake the
user's ``.txt`` or ``.jpg`` for it.
"""

from __future__ import annotations

import re

#: The suffix of a video whose Content-Type does not name a video.
MP4 = "mp4"
VIDEO_MP4 = "video/mp4"
#: The suffix of a ``video/*`` type that is not listed below.
OTHER = "video"
_KNOWN = {
    "video/3gpp": "3gp",
    "video/3gpp2": "3g2",
    "video/matroska": "mkv",
    "video/mp2t": "ts",
    VIDEO_MP4: MP4,
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
_VIDEO = re.compile(r"video/[a-z0-9!#$&^_.+-]{1,127}", re.ASCII)  # RFC 6838, 4.2
# Plain text is not listed: some servers send every file of an unknown type as text/plain. Such
# a body must be a complete MP4, as that of any other type that does not name a video.
_ERROR_PAGE = re.compile(r"text/(html|xml)|application/(json|xml)|[^/]+/.*\+(json|xml)")


def media_type(content_type: str) -> str:
    """Return the media type of a Content-Type, in lower case and without parameters."""
    return content_type.partition(";")[0].strip().lower()


def suffix_of(kind: str) -> str | None:
    """Return a media type's suffix without its dot, ``None`` unless it names a video."""
    return _KNOWN.get(kind, OTHER) if _VIDEO.fullmatch(kind) else None


def is_error_page(kind: str) -> bool:
    """Return whether a media type is that of a web page, or of an error in JSON or XML."""
    return _ERROR_PAGE.fullmatch(kind) is not None
