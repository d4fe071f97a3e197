"""Opening connections: through the proxy that the environment names, or directly."""

from __future__ import annotations

import ssl
from functools import partial
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from modelmax_async._api.messages import as_text
from modelmax_async._errors import ConfigurationError
from modelmax_async._errors.sentences import clause
from modelmax_async._http.addresses import loopback
from modelmax_async._http.connections import KEPT, Opener, manage_one
from modelmax_async._http.heads import bound_heads
from modelmax_async._http.lookups import Lookups
from modelmax_async._http.network import Network
from modelmax_async._reprs import Unshown
from modelmax_async._settings import is_loopback


def opener_for(origin: str, lookups: Lookups) -> Opener:
    """Return what opens connections to the API, through the proxy of the environment."""
    proxy = proxy_for(origin)
    tls = httpx.create_ssl_context() if needs_tls(origin, proxy) else None
    network = network_to(origin, lookups)
    if proxy is not None:
        open_transport(httpx.Limits(), proxy, tls=tls, network=network)  # raises if unusable
    return partial(open_transport, proxy=proxy, tls=tls, network=network)


def network_to(url: str, lookups: Lookups) -> Network:
    """Return how the API is reached: over plain HTTP, ``localhost`` is this machine only."""
    parts = urlsplit(url)
    plain = parts.scheme == "http" and parts.hostname == "localhost"
    return Network(lookups, loopback if plain else None)


def needs_tls(url: str, proxy: str | None) -> bool:
    """Return whether certificates are checked on the way to a URL."""
    return any(each.lower().startswith("https:") for each in (url, proxy or ""))


def open_transport(
    limits: httpx.Limits, proxy: str | None, *, tls: ssl.SSLContext | None, network: Network
) -> httpx.AsyncHTTPTransport:
    """Return a transport, which connects later; for an unusable proxy, raise.

    Without ``tls`` it trusts no certificate, as it is meant for plain HTTP: a context that
    trusts those of the system loads slowly.
    """
    tls = tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        transport = httpx.AsyncHTTPTransport(
            verify=tls, limits=limits, proxy=_with_tls(proxy, tls)
        )
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        secret = "@" in (proxy or "") and not isinstance(exc, ImportError)
        problem = "its URL is malformed" if secret else as_text(str(exc), 300)
    else:
        transport = bound_heads(network.carry(transport))
        return manage_one(transport) if limits is KEPT else transport
    raise ConfigurationError(
        f"the proxy that the environment names cannot be used: {clause(problem)}. "
        "Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or pass an http_client of your own"
    )


def _with_tls(proxy: str | None, tls: ssl.SSLContext) -> httpx.Proxy | None:
    """Return a proxy that is itself reached over TLS with this context, if over TLS at all.

    The HTTP library would load a new one for each connection, and block the event loop.
    """
    if proxy is None:
        return None
    made = httpx.Proxy(proxy)
    return httpx.Proxy(proxy, ssl_context=tls) if made.url.scheme == "https" else made


def proxy_for(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin, as curl and pip read it.

    This machine needs none, and a proxy would see the key of plain HTTP.
    """
    parts = urlsplit(origin)
    if is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    return Unshown(found if "://" in found else f"http://{found}")  # it may have a password
