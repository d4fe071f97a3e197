"""Which client sends a request: the caller's, or the SDK's own."""

from __future__ import annotations

import logging
from contextlib import suppress

import httpx

from modelmax_async._api.messages import as_text
from modelmax_async._arguments import named
from modelmax_async._errors import ConfigurationError
from modelmax_async._http.aiohttp import opener_like
from modelmax_async._http.connections import Connections
from modelmax_async._http.lookups import Lookups
from modelmax_async._http.network import Network
from modelmax_async._http.own_client import ClientOrTransport, PlainClient
from modelmax_async._http.proxies import opener_for
from modelmax_async._http.transports import Carrier, Kind, find_carrier
from modelmax_async._reprs import always_shown
from modelmax_async._settings import Settings

_log = logging.getLogger("modelmax_async")


@always_shown
class Routes:
    """The clients that requests to the API go through.

    Attributes:
        client: what sends free calls: the ``http_client`` argument, or the SDK's own client.
        kind: the kind of its transport.
        injected: whether the client, or its transport, is the caller's.
        lookups: the look-ups of host names for the SDK's own connections.

    Raises:
        ConfigurationError: for an ``http_client`` or a proxy that cannot be used.
    """

    def __init__(self, settings: Settings, given: ClientOrTransport | None) -> None:
        self._warned = False
        self.lookups = Lookups(settings.limits.lookups, settings.limits.lookup_seconds)
        self.injected = given is not None
        self._own: PlainClient | None = None
        self.client: httpx.AsyncClient
        if given is None:
            self.client = self._own = PlainClient(
                Connections(opener_for(settings.origin, self.lookups))
            )
        elif isinstance(given, httpx.AsyncClient):
            self.client = given
        else:
            self.client = PlainClient(_check_transport(given))
        carrier = find_carrier(self.client, _parsed(settings.base_url))
        self.kind = carrier.kind
        if carrier.kind is Kind.AIOHTTP:
            opener = opener_like(carrier.transport, Network(self.lookups))
            self._own = PlainClient(Connections(opener))
        self._first = carrier.transport
        self._warn(carrier)

    def __repr__(self) -> str:
        return f"<Routes: {self.kind.value}, {self._own!r}>"

    def once(self, url: httpx.URL) -> tuple[Kind, httpx.AsyncClient]:
        """Return what sends a request that must be sent once, as things are now.

        The client may have got another transport since, from its owner or from a library that
        mocks it, so that it is looked up again.

        Raises:
            ConfigurationError: if it has got a transport of aiohttp's.
        """
        carrier = find_carrier(self.client, url)
        if carrier.kind is not Kind.AIOHTTP:
            self._warn(carrier)
            return carrier.kind, self.client
        if carrier.transport is not self._first or self._own is None:
            raise ConfigurationError(
                "the transport of http_client was replaced by an AiohttpTransport: make a new "
                "AsyncQueueClient with it"
            )
        return Kind.OWN, self._own

    async def aclose(self) -> None:
        """Close the SDK's own connections; the caller's client stays open."""
        if self._own is not None:
            await self._own.aclose()

    def _warn(self, carrier: Carrier) -> None:
        """Warn once of what an unknown transport may cost."""
        if carrier.kind is not Kind.UNKNOWN or self._warned:
            return
        self._warned = True
        with suppress(Exception):  # a broken log handler costs nothing
            _log.warning(
                "http_client sends through a transport that the SDK does not know (%s). If it "
                "sends a request twice without httpcore's trace events, a job may be billed "
                "twice, and the SDK cannot see it. A billed call that breaks there always "
                "counts as uncertain. See 'HTTP' in the README for the transports it knows",
                carrier.name,
            )


def _check_transport(given: object) -> httpx.AsyncBaseTransport:
    """Return a transport of the caller's: anything that sends as one does.

    Raises:
        ConfigurationError: says what to pass instead. It shows no text: a proxy has a password.
    """
    if callable(getattr(given, "handle_async_request", None)) and not isinstance(given, type):
        return given  # type: ignore[return-value]  # as far as it can be told
    if isinstance(given, type):
        advice = f"pass {given.__name__}(…)"
    elif isinstance(given, httpx.Client):
        advice = "pass httpx.AsyncClient(…), as this one is synchronous"
    elif isinstance(given, httpx.BaseTransport):
        advice = "pass httpx.AsyncHTTPTransport(…), as this one is synchronous"
    elif type(given).__module__.partition(".")[0] == "aiohttp":
        advice = "pass httpx_aiohttp.AiohttpTransport() (extra aiohttp)"
    elif isinstance(given, str):
        advice = "pass httpx.AsyncClient(proxy=…) to use a proxy"
    else:
        advice = "pass httpx.AsyncClient(…), or httpx.ASGITransport(app) for an application"
    raise ConfigurationError(
        f"http_client must be an httpx.AsyncClient or an async transport, got {named(given)}: "
        f"{advice}"
    )


def _parsed(base_url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(base_url)
        parsed.host  # noqa: B018 - read for each request, and only now is its IDNA decoded
        return parsed  # noqa: TRY300 - as above
    except (httpx.InvalidURL, UnicodeError) as exc:  # the latter for malformed IDNA
        problem = as_text(str(exc), 300)
    raise ConfigurationError(f"base_url cannot be used: {problem}")
