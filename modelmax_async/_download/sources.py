"""Which URLs videos may be fetched from, and whether the key is sent (API §4).

The key is sent to the base URL's origin only. Any other host is reached over https, without the
key, and only if it is not in a private network: a response must not make this machine send
requests to its neighbours. Every redirect is checked anew. This module does no I/O.
"""

from __future__ import annotations

import binascii
import re
from urllib.parse import unquote, urljoin, urlsplit

import attrs

from modelmax_async._api.messages import as_text
from modelmax_async._api.paths import reads_alike
from modelmax_async._http.addresses import is_address, is_private, is_understood
from modelmax_async._settings import (
    DEFAULT_PORTS,
    Settings,
    is_host_name,
    lower_scheme,
    origin_of,
)

#: The most bytes of a video in a ``data:`` URL, which is held in memory.
MAX_DATA = 16 * 1024 * 1024
#: Characters that are decoded, and then looked at on the event loop, at once. A multiple of 4.
_PIECE = 64 * 1024
_NO_ESCAPE = re.compile(b"%(?![0-9a-fA-F]{2})")
_LONGEST_URL = 16 * 1024
#: How many layers of percent-encoding a gateway may decode.
_LAYERS = 4
_BLANK = "".join(map(chr, range(33)))
#: Names of this machine, alone or after a dot.
_HERE = frozenset({"localhost", "ip6-localhost", "ip6-loopback"})


class SourceError(Exception):
    """A URL that must not be fetched. The text says why, and contains nothing secret."""


@attrs.frozen
class Source:
    """A checked URL, its scheme in lower case; ``keyed`` if the key is sent to it."""

    url: str = attrs.field(repr=False)
    keyed: bool


def source_of(url: str, settings: Settings) -> Source:
    """Return the source of ``data[].url`` (API §4): a path, or an absolute URL.

    Raises:
        SourceError: for a URL that must not, or cannot, be fetched.
    """
    if is_data(url):
        return Source(url, keyed=False)
    _check_text(url)
    base = settings.base_url
    prefix = urlsplit(base).path
    inside = url.startswith("/") and not url.startswith(("//", f"{prefix}/"))
    return _check_url(base + url if inside else _join(base + "/", url), settings)


def follow_redirect(source: Source, location: str, settings: Settings) -> Source:
    """Return the source that a redirect leads to.

    Raises:
        SourceError: as `source_of`, and for a redirect from https to http.
    """
    _check_text(location)
    target = _check_url(_join(source.url, location), settings)
    if source.url.startswith("https:") and not target.url.startswith("https:"):
        raise SourceError("the server redirected from https to http")
    return target


def is_data(url: str) -> bool:
    """Return whether the URL contains the video itself."""
    return url[:5].lower() == "data:"


def data_type(url: str) -> str:
    """Return the media type of a ``data:`` URL."""
    return re.split("[;,]", url[5:200], maxsplit=1)[0]


def shown(url: str) -> str:
    """Return the URL for an error message: without credentials, query and data."""
    if is_data(url):
        return "data:…"
    if len(url) > _LONGEST_URL:  # cut, its beginning could show a password
        return f"a URL of {len(url)} characters"
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return as_text(re.sub(r"//[^/]*@", "//", bare), 300)


def decode_data(url: str) -> list[bytes]:
    """Return the bytes of a ``data:`` URL (RFC 2397) in pieces.

    Raises:
        SourceError: for one that is malformed, or larger than `MAX_DATA`.
    """
    head, comma, text = url[5:].partition(",")
    if not comma:
        raise SourceError("the data: URL is malformed")
    base64 = head.lower().rstrip().endswith(";base64")
    if len(text) > (MAX_DATA * 4 // 3 + 4 if base64 else 3 * MAX_DATA):
        raise SourceError(f"the data: URL contains more than {MAX_DATA} bytes")
    pieces = _unquote(text)
    if base64:
        pieces = _decode_base64(b"".join(pieces))
    if sum(map(len, pieces)) > MAX_DATA:
        raise SourceError(f"the data: URL contains more than {MAX_DATA} bytes")
    return pieces


def _unquote(text: str) -> list[bytes]:
    """Decode %-escapes in pieces: a decoder blocks the interpreter, and so the event loop."""
    pieces = []
    at = 0
    while at < len(text):
        end = at + _PIECE
        cut = text.rfind("%", end - 2, end) if end < len(text) else -1
        end = cut if cut >= 0 else end
        pieces.append(_unquote_piece(text[at:end].encode("utf-8", "surrogatepass")))
        at = end
    return pieces


def _unquote_piece(piece: bytes) -> bytes:
    """Decode as quoted-printable, whose escapes differ by one character.

    `unquote_to_bytes` does the same in Python: it takes twenty seconds for 8 MiB of ``%``.
    """
    if b"%" not in piece:
        return piece
    whole = _NO_ESCAPE.sub(b"%25", piece)
    return binascii.a2b_qp(whole.replace(b"=", b"=3D").replace(b"%", b"="))


def _decode_base64(text: bytes) -> list[bytes]:
    """Decode base64 in pieces, for the same reason."""
    digits = text.rstrip(b"=")
    if b"=" in digits or len(text) % 4 or len(text) - len(digits) > 2:  # noqa: PLR2004 - base64 is padded by two at most
        raise SourceError("the base64 of the data: URL is malformed")
    try:
        return [
            binascii.a2b_base64(text[at : at + _PIECE], strict_mode=True)
            for at in range(0, len(text), _PIECE)
        ]
    except ValueError:
        raise SourceError("the base64 of the data: URL is malformed") from None


def _check_text(url: str) -> None:
    """Refuse characters that a URL cannot contain, or that two parsers may read differently."""
    if len(url) > _LONGEST_URL:  # asked first: every other look takes long
        raise SourceError(f"the URL has more than {_LONGEST_URL} characters")
    clean = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>^`{|}')
    if not url or not clean:
        raise SourceError("the URL is malformed")


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url).split("#", maxsplit=1)[0]
    except ValueError:
        raise SourceError("the URL is malformed") from None


def _check_url(url: str, settings: Settings) -> Source:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise SourceError("the URL is malformed") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        scheme = as_text(parts.scheme, 20)
        raise SourceError(f"the URL must start with https:// and a host, got {scheme!r}")
    if parts.username is not None or parts.password is not None:
        raise SourceError("the URL contains credentials, which are never sent")
    if port == 0:
        raise SourceError("the URL is malformed")
    if not is_host_name(host) or not is_understood(url):
        raise SourceError("the host name is malformed")
    url = lower_scheme(url)
    if origin_of(parts.scheme, host, port) == settings.origin:
        _check_path(parts.path)
        return Source(url, keyed=True)
    if parts.scheme != "https":
        raise SourceError("a host other than the API's is used over https only")
    _check_host(host)
    return Source(url, keyed=False)


def _check_path(path: str) -> None:
    """Refuse a path of the API's own origin if a request to it may be **billed**.

    Gateways read paths in different ways, so that each reading is looked at.
    """
    readings = [path]
    for _ in range(_LAYERS):
        readings.append(unquote(readings[-1]))
    for reading in readings:
        segments = [_bare(part) for part in re.split(r"[/\\]", reading) if part]
        if {".", ".."} & set(segments):
            raise SourceError("the URL path contains . or .. segments")
        content = segments[-2:-1] == ["content"] and "requests" in segments[:-3]
        plain = content and reads_alike(path)
        if not plain and {"queue", "requests"} <= set(segments):
            raise SourceError("the URL is that of a call that may be billed, not of a video")


def _bare(segment: str) -> str:
    """Return a segment as the most eager gateway reads it: decoded, and without parameters."""
    for _ in range(_LAYERS):
        segment = unquote(segment)
    return segment.partition(";")[0].strip(_BLANK).lower()


def _check_host(host: str) -> None:
    """Refuse this machine and private networks, by name or address, in any spelling."""
    name = host.rstrip(".")
    last = name.rsplit(".", maxsplit=1)[-1]
    if is_address(host):
        private = is_private(host)
    else:  # a name, or an address in a spelling that only resolvers know
        private = last in _HERE or re.fullmatch("[0-9]+|0x[0-9a-f]*", last) is not None
    if private:
        raise SourceError("the host is in a private network")
