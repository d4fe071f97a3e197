"""Where a video may be fetched from, and whether the key goes along (API §4).

The key goes to the base URL's origin only. Any other host is reached over https, without
the key, and only where it is no address of a private network: a server's answer must not
make this machine ask its neighbours. Every redirect is judged anew. Nothing here does I/O.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from urllib.parse import SplitResult, unquote, unquote_to_bytes, urljoin, urlsplit

import attrs

from modelmax_async._api.messages import as_text
from modelmax_async._settings import DEFAULT_PORTS, Settings, is_loopback, origin_of

#: Bytes of a video in a ``data:`` URL, which is in memory whole.
MAX_DATA = 16 * 1024 * 1024
_PIECE = 1024 * 1024  # a multiple of 4; decoding it takes about a millisecond
_TEXT = 64 * 1024  # characters with escapes, which take longer, and much memory meanwhile
_LONGEST_URL = 16 * 1024
_LABEL = 63  # characters between two dots of a name
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Not global, but taken for it by Python 3.11: old site-local, IPv4-compatible, local NAT64.
_LOCAL = tuple(map(ipaddress.IPv6Network, ("fec0::/10", "::/96", "64:ff9b:1::/48")))


class SourceError(Exception):
    """An address that is not fetched. The text says why, and holds nothing secret."""


@attrs.frozen
class Source:
    """An address to fetch: ``keyed`` when it may see the key, ``host`` for other hosts."""

    url: str = attrs.field(repr=False)
    keyed: bool
    host: str = ""
    port: int = 443


def source_of(url: str, settings: Settings) -> Source:
    """Return the source of ``data[].url`` (API §4): a path, or an absolute URL.

    Raises:
        SourceError: for what must not, or cannot, be fetched.
    """
    if is_data(url):
        return Source(url, keyed=False)
    _check_text(url)
    base = settings.base_url
    prefix = urlsplit(base).path
    inside = url.startswith("/") and not url.startswith(("//", f"{prefix}/"))
    return _judge(base + url if inside else _join(base + "/", url), settings)


def follow(source: Source, location: str, settings: Settings) -> Source:
    """Return the source that a redirect points to.

    Raises:
        SourceError: as `source_of`, and for a way back from https to http.
    """
    _check_text(location)
    target = _judge(_join(source.url, location), settings)
    if source.url.startswith("https:") and not target.url.startswith("https:"):
        raise SourceError("it was redirected from https to http")
    return target


def is_data(url: str) -> bool:
    """Whether the URL holds the video itself."""
    return url[:5].lower() == "data:"


def data_type(url: str) -> str:
    """Return the Content-Type of a ``data:`` URL, less its parameters."""
    return re.split("[;,]", url[5:200], maxsplit=1)[0]


def shown(url: str) -> str:
    """Return the URL as it may stand in an error: no credentials, no query, no data."""
    if is_data(url):
        return "data:…"
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return as_text(re.sub(r"//[^/]*@", "//", bare), 300)


def is_private(address: str) -> bool:
    """Whether an IP address is none of the public internet's."""
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
        raise SourceError("it is a malformed data: URL")
    base64 = head.lower().rstrip().endswith(";base64")
    if len(text) > (MAX_DATA * 4 // 3 + 4 if base64 else 3 * MAX_DATA):
        raise SourceError(f"it is a data: URL of more than {MAX_DATA} bytes")
    pieces = _unquote(text)
    if base64:
        pieces = _decode_base64(b"".join(pieces))
    if sum(map(len, pieces)) > MAX_DATA:
        raise SourceError(f"it is a data: URL of more than {MAX_DATA} bytes")
    return pieces


def _unquote(text: str) -> list[bytes]:
    """Decode %-escapes in pieces: a decoder holds the interpreter, and so the event loop."""
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
    """Decode in pieces, as above."""
    digits = text.rstrip(b"=")
    if b"=" in digits or len(text) % 4 or len(text) - len(digits) > 2:  # noqa: PLR2004 - base64's
        raise SourceError("it is a data: URL with malformed base64")
    try:
        return [
            binascii.a2b_base64(text[at : at + _PIECE], strict_mode=True)
            for at in range(0, len(text), _PIECE)
        ]
    except ValueError:
        raise SourceError("it is a data: URL with malformed base64") from None


def _check_text(url: str) -> None:
    """Refuse what no URL holds, and what two parsers could read in two ways."""
    clean = url.isascii() and url.isprintable() and not set(url) & set(' \\"<>^`{|}')
    if not url or not clean or len(url) > _LONGEST_URL:
        raise SourceError("it is no URL")


def _join(base: str, url: str) -> str:
    try:
        return urljoin(base, url).split("#", maxsplit=1)[0]
    except ValueError:
        raise SourceError("it is no URL") from None


def _judge(url: str, settings: Settings) -> Source:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise SourceError("it is no URL") from None
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise SourceError(f"{as_text(parts.scheme, 20) or 'its scheme'}: is not fetched")
    if parts.username is not None or parts.password is not None:
        raise SourceError("it holds credentials, which are not sent")
    if origin_of(parts.scheme, host, port) == settings.origin:
        return Source(_safe(url, parts), keyed=True)
    if parts.scheme != "https":
        raise SourceError("another host than the API's is fetched from over https only")
    _check_name(host)
    return Source(url, keyed=False, host=host, port=port or 443)


def _safe(url: str, parts: SplitResult) -> str:
    """Return a URL of the API's own origin, unless it may be that of a **billed** call."""
    for path in (parts.path, unquote(parts.path)):  # servers differ in when they decode
        segments = [unquote(part).lower() for part in path.split("/") if part]
        if {".", ".."} & set(segments):
            raise SourceError("its path has dots for segments")
        content = segments[-2:-1] == ["content"] and "requests" in segments[:-3]
        if not content and {"queue", "requests"} <= set(segments):
            raise SourceError("it is the address of a call that may be billed, not of a video")
    return url


def _check_name(host: str) -> None:
    """Refuse names and literals of this machine and of private networks, in any spelling."""
    if any(not 1 <= len(label) <= _LABEL for label in host.removesuffix(".").split(".")):
        raise SourceError("its host is no name of a host")
    last = host.rstrip(".").rsplit(".", maxsplit=1)[-1]
    try:
        private = is_private(host)
    except ValueError:  # a name, or a spelling of an address that only resolvers know
        private = is_loopback(host) or re.fullmatch("[0-9]+|0x[0-9a-f]*", last) is not None
    if private:
        raise SourceError("its host is an address of a private network")
