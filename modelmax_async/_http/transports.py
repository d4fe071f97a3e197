"""What carries a request, and how far its word counts where money is at stake.

A foreign transport may send a request twice, and may call a break that came after byte 0 a
failed connection. So each kind says what it is trusted with.
"""

from __future__ import annotations

import enum
import sys

import attrs
import httpx

from modelmax_async._http.clients import HTTPClient


class Kind(enum.Enum):
    """The kinds of transports."""

    OWN = "own"
    """Connections of ours: HTTP/1.1, traced, fresh for what must be sent once."""
    TRACED = "traced"
    """`httpx.AsyncHTTPTransport` itself, or a transport marked with `MARK`."""
    MOCK = "mock"
    """`httpx.MockTransport` itself: what its handler raises is what happened."""
    ASGI = "ASGI"
    """`httpx.ASGITransport` itself: an application that raised may have done its work."""
    AIOHTTP = "aiohttp"
    """httpx-aiohttp's: it resends, and its exceptions lie. It carries free calls only."""
    UNKNOWN = "unknown"
    """Anything else. It carries everything, and nothing that it raises is believed."""


#: The kinds whose trace events say when byte 0 leaves.
TRACING = frozenset({Kind.OWN, Kind.TRACED})

#: A class with this attribute, of its own and true, emits httpcore's trace events truly and
#: sends each request once. The emulator's in-process transport has it.
MARK = "emits_httpcore_trace_events"

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
    """The transport that a URL's requests go through; ``None`` where it cannot be told."""

    kind: Kind
    transport: httpx.AsyncBaseTransport | None

    @property
    def name(self) -> str:
        """The type of the transport, as a person would look for it."""
        found = type(self.transport)
        return f"{found.__module__}.{found.__qualname__}" if self.transport else "of its own"


def find_carrier(client: HTTPClient, url: httpx.URL) -> Carrier:
    """Return what carries requests to a URL: a transport, or the one that a client picks."""
    transport = _transport_of(client, url)
    return Carrier(_kind_of(transport), transport)


def is_believed(kind: Kind, error: BaseException, *, watched: bool) -> bool:
    """Whether the class of an error proves that nothing was sent.

    With ``watched``, trace events were asked for, and none came. A tracing transport emits one
    before it connects, so that only a request that found no place in its pool has none.
    """
    if kind in TRACING:
        return isinstance(error, httpx.PoolTimeout if watched else _NEVER_SENT)
    return kind is Kind.MOCK and isinstance(error, _NEVER_SENT)


def _transport_of(client: HTTPClient, url: httpx.URL) -> httpx.AsyncBaseTransport | None:
    if isinstance(client, httpx.AsyncBaseTransport):
        return client
    own = vars(client)
    for name in _SENDING:
        if name in own or getattr(type(client), name, 0) is not getattr(
            httpx.AsyncClient, name, None
        ):
            return None  # it sends in a way of its own
    try:
        found: object = client._transport_for_url(url)  # noqa: SLF001 - a contract test pins it
    except Exception:  # noqa: BLE001 - whatever is not as expected is unknown
        return None
    return found if isinstance(found, httpx.AsyncBaseTransport) else None


def _kind_of(transport: httpx.AsyncBaseTransport | None) -> Kind:
    if transport is None:
        return Kind.UNKNOWN
    if _is_aiohttp(transport):
        return Kind.AIOHTTP
    if "handle_async_request" in getattr(transport, "__dict__", ()):
        return Kind.UNKNOWN  # wrapped by a tool, which may do as it likes
    exact = type(transport)
    if exact is httpx.AsyncHTTPTransport or vars(exact).get(MARK) is True:
        return Kind.TRACED
    if exact is httpx.MockTransport:
        return Kind.MOCK
    return Kind.ASGI if exact is httpx.ASGITransport else Kind.UNKNOWN


def _is_aiohttp(transport: httpx.AsyncBaseTransport) -> bool:
    """Look without an import: who has such a transport has imported its module."""
    found = getattr(sys.modules.get("httpx_aiohttp"), "AiohttpTransport", None)
    return isinstance(found, type) and isinstance(transport, found)
