"""What carries a request, and how far it is believed where money is at stake.

A foreign transport may send a request twice, and may report a connection that broke after
byte 0 as one that was never made. So each kind of transport says what it is trusted with.
"""

from __future__ import annotations

import enum
import sys

import attrs
import httpx

from modelmax_async._http.connections import Connections
from modelmax_async._http.own_client import PlainClient


class Kind(enum.Enum):
    """The kinds of transports."""

    OWN = "own"
    """`Connections`: HTTP/1.1, traced, a new connection for what must be sent once."""
    TRACED = "traced"
    """`httpx.AsyncHTTPTransport` itself, or a transport marked with `MARK`."""
    MOCK = "mock"
    """`httpx.MockTransport` itself: what its handler raises is what happened."""
    ASGI = "ASGI"
    """`httpx.ASGITransport` itself: an application that raised may have done its work."""
    AIOHTTP = "aiohttp"
    """httpx-aiohttp's: it resends requests, and maps errors to classes that are not true. It
    carries free calls only."""
    UNKNOWN = "unknown"
    """Any other. It carries everything, and nothing that it raises is believed."""


#: The kinds whose trace events say when byte 0 leaves.
TRACING = frozenset({Kind.OWN, Kind.TRACED})

#: A class that itself sets this attribute to true emits httpcore's trace events correctly, and
#: sends each request once. The emulator's in-process transport does.
MARK = "emits_httpcore_trace_events"

#: By exact type: a subclass may do anything.
_KINDS: dict[type[httpx.AsyncBaseTransport], Kind] = {
    Connections: Kind.OWN,
    httpx.AsyncHTTPTransport: Kind.TRACED,
    httpx.MockTransport: Kind.MOCK,
    httpx.ASGITransport: Kind.ASGI,
}

#: httpx raises these before it has a connection, and so before anything can be sent.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)

#: What sends in an `httpx.AsyncClient`. Private but for the first: tests pin the names.
_SENDING = (
    "send",
    "_send_handling_auth",
    "_send_handling_redirects",
    "_send_single_request",
)


@attrs.frozen
class Carrier:
    """The transport that sends the requests to a URL; ``None`` if that is not known."""

    kind: Kind
    transport: httpx.AsyncBaseTransport | None

    @property
    def name(self) -> str:
        """The full name of the transport's type."""
        found = type(self.transport)
        return f"{found.__module__}.{found.__qualname__}" if self.transport else "of its own"


def find_carrier(client: httpx.AsyncClient, url: httpx.URL) -> Carrier:
    """Return the transport that a client would send a request to this URL through."""
    transport = _transport_of(client, url)
    return Carrier(_kind_of(transport), transport)


def is_believed(kind: Kind, error: BaseException, *, watched: bool) -> bool:
    """Whether the class of an error proves that nothing was sent.

    If it was ``watched``, trace events were asked for, and none was seen. A tracing transport
    emits one before it connects, unless the request found no place in its pool.
    """
    if kind in TRACING:
        return isinstance(error, httpx.PoolTimeout if watched else _NEVER_SENT)
    return kind is Kind.MOCK and isinstance(error, _NEVER_SENT)


def _transport_of(client: httpx.AsyncClient, url: httpx.URL) -> httpx.AsyncBaseTransport | None:
    known = PlainClient if type(client) is PlainClient else httpx.AsyncClient
    for name in _SENDING:
        own = name in vars(client)
        if own or getattr(type(client), name, 0) is not getattr(known, name, None):
            return None  # it sends in its own way
    try:
        found: object = client._transport_for_url(url)  # noqa: SLF001 - a contract test pins it
    except Exception:  # noqa: BLE001 - what is not as expected is unknown
        return None
    return found if isinstance(found, httpx.AsyncBaseTransport) else None


def _kind_of(transport: httpx.AsyncBaseTransport | None) -> Kind:
    if transport is None:
        return Kind.UNKNOWN
    if _is_aiohttp(transport):
        return Kind.AIOHTTP
    if "handle_async_request" in getattr(transport, "__dict__", ()):
        return Kind.UNKNOWN  # wrapped by a tool, which may do anything
    exact = type(transport)
    if vars(exact).get(MARK) is True:
        return Kind.TRACED
    return _KINDS.get(exact, Kind.UNKNOWN)


def _is_aiohttp(transport: httpx.AsyncBaseTransport) -> bool:
    """Look without an import: a program with such a transport has imported its module."""
    found = getattr(sys.modules.get("httpx_aiohttp"), "AiohttpTransport", None)
    return isinstance(found, type) and isinstance(transport, found)
