"""Which URLs videos may be fetched from, and whether the key is sent (API §4).

The key is sent to the base URL's origin only. Any other host is reached over https, without the
key, and only if it is not in a private network: a response must not make this machine send
requests to its neighbours. Every redirect is checked anew. This module does no I/O.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urljoin, urlsplit

import attrs

from modelmax_async._api.messages import as_text
from modelmax_async._settings import DEFAULT_PORTS, Settings, is_loopback, origin_of

#: The most bytes of a video in a ``data:`` URL, which is held in memory.
MAX_DATA = 16 * 1024 * 1024
_PIECE = 1024 * 1024  # a multiple of 4; decoded in about a millisecond
_TEXT = 64 * 1024  # characters with escapes, which take more time and memory
_LONGEST_URL = 16 * 1024
_LABEL = 63  # the most characters between two dots of a host name
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Not global, although Python 3.11 says so: site-local, IPv4-compatible and local NAT64.
_LOCAL = tuple(map(ipaddress.IPv6Network, ("fec0::/10", "::/96", "64:ff9b:1::/48")))


class SourceError(Exception):
    """A URL that must not be fetched. The text says why, and contains nothing secret."""


@attrs.frozen
class Source:
    """A checked URL; ``keyed`` if the key is sent to it. ``host`` is set for other hosts."""

    url: str = attrs.field(repr=False)
    keyed: bool
    host: str = ""
    port: int = 443


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
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return as_text(re.sub(r"//[^/]*@", "//", bare), 300)


def is_private(address: str) -> bool:
    """Return whether an IP address is not one of the public internet."""
    found = ipaddress.ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if any(found in network for network in _LOCAL):
            return True
        if found in _NAT64:
            inner = ipaddress.IPv4Address(found.packed[-4:])
        if inner is not None:
            return is_private(str(inner))
    return not found.is_global or found.is_multicast


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
        end = at + _TEXT
        cut = text.rfind("%", end - 2, end) if end < len(text) else -1
        end = cut if cut >= 0 else end
        pieces.append(unquote_to_bytes(text[at:end]))
        at = end
    return pieces


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
    clean = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>^`{|}')
    if not url or not clean or len(url) > _LONGEST_URL:
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
    if origin_of(parts.scheme, host, port) == settings.origin:
        return Source(_check_path(url, parts), keyed=True)
    if parts.scheme != "https":
        raise SourceError("a host other than the API's is used over https only")
    _check_host(host)
    return Source(url, keyed=False, host=host, port=port or 443)


def _check_path(url: str, parts: SplitResult) -> str:
    """Return a URL of the API's own origin, unless a request to it may be **billed**."""
    for path in (parts.path, unquote(parts.path)):  # servers decode at different times
        segments = [unquote(part).lower() for part in path.split("/") if part]
        if {".", ".."} & set(segments):
            raise SourceError("the URL path contains . or .. segments")
        content = segments[-2:-1] == ["content"] and "requests" in segments[:-3]
        if not content and {"queue", "requests"} <= set(segments):
            raise SourceError("the URL is that of a call that may be billed, not of a video")
    return url


def _check_host(host: str) -> None:
    """Refuse this machine and private networks, by name or address, in any spelling."""
    if any(not 1 <= len(label) <= _LABEL for label in host.removesuffix(".").split(".")):
        raise SourceError("the host name is malformed")
    last = host.rstrip(".").rsplit(".", maxsplit=1)[-1]
    try:
        private = is_private(host)
    except ValueError:  # a name, or an address in a spelling that only resolvers know
        private = is_loopback(host) or re.fullmatch("[0-9]+|0x[0-9a-f]*", last) is not None
    if private:
        raise SourceError("the host is in a private network")
