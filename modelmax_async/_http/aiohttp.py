"""Connections with the settings of an aiohttp transport, for calls that it must not carry.

aiohttp sends a GET again when a kept connection breaks, and httpx-aiohttp maps the break to
an error which says that no connection was made. One job was billed ten times like that.
"""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any

import httpx

from modelmax_async._api.messages import as_text
from modelmax_async._errors import ConfigurationError
from modelmax_async._http.connections import Opener
from modelmax_async._http.heads import bound_heads
from modelmax_async._http.network import Network


def opener_like(transport: Any, network: Network) -> Opener:
    """Return what opens connections with the settings of an aiohttp transport.

    The proxies of the environment are ignored, as aiohttp's transport ignores them.
    """
    if not _has_own_session(transport):
        raise ConfigurationError(
            "http_client is an AiohttpTransport with an aiohttp session that it did not make "
            "(client=...), or a closed one. The SDK makes billed calls over connections of its "
            "own, and cannot give them the settings of that session. Pass AiohttpTransport() "
            "with verify=, cert= or proxy= instead, or an httpx.AsyncClient"
        )
    try:
        if not isinstance(transport.ssl_context, ssl.SSLContext):
            raise TypeError("its ssl_context is not an ssl.SSLContext")
        opener = partial(
            httpx.AsyncHTTPTransport,
            verify=transport.ssl_context,
            proxy=transport.proxy,
            uds=transport.uds,
            local_address=transport.local_address,
            socket_options=transport.socket_options or None,
            trust_env=False,
        )
        opener()
    except (AttributeError, ImportError, TypeError, ValueError, httpx.InvalidURL) as exc:
        problem = as_text(str(exc), 300)
    else:
        return lambda limits: bound_heads(network.carry(opener(limits=limits)))
    raise ConfigurationError(
        "http_client is an AiohttpTransport whose settings cannot be used for the SDK's own "
        f"connections: {problem}"
    )


def _has_own_session(transport: Any) -> bool:
    """Whether the transport has no session yet, or one that it made by itself."""
    try:
        session = transport.client
        if session is None:
            return True
        plain = not (session.trust_env or session.headers or session.trace_configs)
        if transport.uds:
            same = session.connector.path == transport.uds
        else:
            same = session.connector._ssl is transport.ssl_context  # noqa: SLF001 - a contract test pins it
    except AttributeError:  # a callable, a closed session, or a later kind of session
        return False
    return plain and bool(same)
