"""Which way a request goes: over a connection of ours, or through what the caller gave."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial

import httpx

from modelmax_async._api.messages import as_text
from modelmax_async._errors import ConfigurationError
from modelmax_async._http.aiohttp import opener_like
from modelmax_async._http.clients import HTTPClient
from modelmax_async._http.proxies import Opener, open_transport, opener_for
from modelmax_async._http.transports import Carrier, Kind, find_carrier
from modelmax_async._settings import Settings

_log = logging.getLogger("modelmax_async")


class Routes:
    """Knows the kind of transport that requests to the API go through.

    Attributes:
        kind: what carries the free calls.
        opener: what opens the connections of ours.

    Raises:
        ConfigurationError: for an ``http_client`` or a proxy that cannot be used.
    """

    def __init__(self, settings: Settings, injected: HTTPClient | None) -> None:
        self._injected = injected
        self._warned = False
        self._carrier = Carrier(Kind.OWN, None)
        if injected is not None:
            self._carrier = find_carrier(injected, _parsed(settings.base_url))
            self._warn(self._carrier)
        self.kind = self._carrier.kind
        self.opener: Opener
        if self.kind is Kind.OWN:
            self.opener = opener_for(settings.origin)
        elif self.kind is Kind.AIOHTTP:
            self.opener = opener_like(self._carrier.transport)
        else:
            self.opener = partial(open_transport, proxy=None, tls=False)  # opens nothing

    def kind_once(self, url: httpx.URL) -> Kind:
        """Return what carries a call that must be sent once, as things are now.

        A client of the caller's may have got another transport since, from its owner or from a
        library that mocks it, so that it is looked up again.

        Raises:
            ConfigurationError: where it has got a transport of aiohttp's.
        """
        if self._injected is None:
            return Kind.OWN
        now = find_carrier(self._injected, url)
        if now.kind is Kind.AIOHTTP and now.transport is not self._carrier.transport:
            raise ConfigurationError(
                "the transport of http_client was replaced by an AiohttpTransport: make a new "
                "AsyncQueueClient with it"
            )
        self._warn(now)
        return Kind.OWN if now.kind is Kind.AIOHTTP else now.kind

    def _warn(self, carrier: Carrier) -> None:
        """Say once what a transport that nobody knows may cost."""
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


def _parsed(base_url: str) -> httpx.URL:
    try:
        return httpx.URL(base_url)
    except httpx.InvalidURL as exc:
        problem = as_text(str(exc), 300)
    raise ConfigurationError(f"base_url cannot be used: {problem}")
