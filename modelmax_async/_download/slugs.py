"""Slugs: the part of a key, a request id or a model that a file name shows.

A slug consists of ASCII letters, digits, ``-`` and ``_``, begins and ends with a letter or
digit, and is never empty. It contains no dot, which would be taken for that of a suffix.
"""

from __future__ import annotations

import hashlib
import re

#: The most characters of a slug, unless a template leaves room for fewer.
LONGEST_SLUG = 40
#: Hexadecimal digits of `marked`: no two of a million texts have the same.
MARK = 16
#: Hexadecimal digits that `key_label` adds, beside the digest of the request id.
SHORT_MARK = 8
_EMPTY = "video"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?", re.ASCII)
_LIKE_MARKED = re.compile(rf"-[0-9a-f]{{{MARK}}}\Z", re.ASCII)
_RESERVED = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³]", re.IGNORECASE)


def digest_of(text: str) -> str:
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def id_slug(request_id: str, width: int) -> str:
    """Return the end of a request id as a slug of at most ``width`` characters.

    The beginning is often the same for every job: ids may be the base64 of a path.
    """
    return _trim(_clean(request_id)[-width:]) or _EMPTY


def key_slug(key: str, width: int) -> str:
    """Return the beginning and the end of a key as a slug of at most ``width`` characters."""
    clean = _clean(key)
    if len(clean) > width:
        end = width // 2
        clean = f"{_trim(clean[: width - end - 1])}_{_trim(clean[-end:])}"
    return clean or _EMPTY


def model_slug(model: str, width: int) -> str:
    """Return the beginning of a model as a slug of at most ``width`` characters.

    It contains no ``-``, so that ``{model}-{key}`` shows where the model ends: otherwise key
    ``fast-1`` of model ``veo-3`` would share a file with key ``1`` of ``veo-3-fast``.
    """
    return _trim(_clean(model).replace("-", "_")[:width]) or _EMPTY


def key_label(key: str, width: int) -> str:
    """Return the slug of a key that stands beside the digest of the request id.

    A key that loses letters is followed by digits of its own SHA-256. Otherwise, 100,000 keys
    in Chinese might share one slug, and the 32 bits of the id's digest would be too few.
    """
    slug = key_slug(key, width)
    if key.isascii() and _clean(key) == slug:
        return slug
    return f"{slug}-{digest_of(key)[:SHORT_MARK]}"


def is_plain(text: str, width: int) -> bool:
    """Return whether a text is its own slug, and no other text has that name in any case."""
    plain = len(text) <= width and _PLAIN.fullmatch(text) is not None
    return plain and not _LIKE_MARKED.search(text) and not is_reserved(text)


def is_reserved(name: str) -> bool:
    """Return whether Windows takes a file name for that of a device."""
    return _RESERVED.fullmatch(name.partition(".")[0].rstrip(" ")) is not None


def _clean(text: str) -> str:
    return _trim(_UNSAFE.sub("_", text))


def _trim(slug: str) -> str:
    return slug.strip("-_")
