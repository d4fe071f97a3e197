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
from modelmax_async._http.connections import KEPT, Opener, manage_one
from modelmax_async._reprs import Unshown


def opener_for(origin: str) -> Opener:
    """Return what opens connections to an origin, through the proxy of the environment."""
    tls = httpx.create_ssl_context() if origin.startswith("https:") else False
    proxy = proxy_for(origin)
    if proxy is not None:
        open_transport(httpx.Limits(), proxy, tls=tls)  # raises if it cannot be used
    return partial(open_transport, proxy=proxy, tls=tls)


def open_transport(
    limits: httpx.Limits, proxy: str | None, *, tls: ssl.SSLContext | bool
) -> httpx.AsyncHTTPTransport:
    """Return a transport, which connects later; for an unusable proxy, raise."""
    try:
        transport = httpx.AsyncHTTPTransport(verify=tls, limits=limits, proxy=proxy)
    except (ImportError, ValueError, httpx.InvalidURL) as exc:
        secret = "@" in (proxy or "") and not isinstance(exc, ImportError)
        problem = "its URL is malformed" if secret else as_text(str(exc), 300)
    else:
        return manage_one(transport) if limits is KEPT else transport
    raise ConfigurationError(
        f"the proxy that the environment names cannot be used: {clause(problem)}. "
        "Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or pass an http_client of your own"
    )


def proxy_for(origin: str) -> str | None:
    """Return the proxy that the environment names for an origin, as curl and pip read it."""
    parts = urlsplit(origin)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found:
        return None
    return Unshown(found if "://" in found else f"http://{found}")  # it may have a password
