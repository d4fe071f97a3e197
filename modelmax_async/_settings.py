"""Settings: the arguments of a client and the environment, checked before any I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

import attrs

from modelmax_async._api_key import ApiKey
from modelmax_async._arguments import named
from modelmax_async._errors import ConfigurationError
from modelmax_async._models import ResourceLimits
from modelmax_async._validators import check_segment, is_integer

DEFAULT_BASE_URL = "https://api.modelmax.io"
DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_IN_FLIGHT = 1024  # each has its own connection
_LABEL = 63  # the most characters between two dots of a host name
OnUncertain = Literal["raise", "refetch"]


@attrs.frozen(kw_only=True)
class Settings:
    """The checked settings of a client. ``origin`` is scheme, host and port."""

    key: ApiKey
    base_url: str
    origin: str
    model: str | None
    on_uncertain: OnUncertain
    max_in_flight: int
    limits: ResourceLimits


def read_settings(
    *,
    api_key: ApiKey | ConfigurationError,
    base_url: str | None,
    model: str | None,
    on_uncertain: str,
    max_in_flight: int,
    allow_insecure: bool,
    environ: Mapping[str, str],
    limits: ResourceLimits | None = None,
) -> Settings:
    """Check every setting before any I/O.

    ``api_key`` is what `read_key` returned; the others are the arguments of the client.

    Raises:
        ConfigurationError: names the setting and how to correct it, but not the key.
    """
    url = base_url if base_url is not None else environ.get("MODELMAX_API_BASE_URL")
    url = url or DEFAULT_BASE_URL
    del environ  # it holds the key, and a traceback may show the variables of this frame
    if isinstance(api_key, ConfigurationError):
        raise api_key
    origin = _check_base_url(url, allow_insecure=allow_insecure)
    if on_uncertain not in {"raise", "refetch"}:
        raise ConfigurationError(
            f"on_uncertain must be 'raise' or 'refetch', got {on_uncertain!r}"
        )
    if not is_integer(max_in_flight, 1, MAX_IN_FLIGHT):
        raise ConfigurationError(
            f"max_in_flight must be an integer from 1 to {MAX_IN_FLIGHT}, got {max_in_flight!r}"
        )
    if model is not None:
        try:
            check_segment("model", model)
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from exc
    return Settings(
        key=api_key,
        base_url=lower_scheme(url.rstrip("/")),
        origin=origin,
        model=model,
        on_uncertain="refetch" if on_uncertain == "refetch" else "raise",
        max_in_flight=max_in_flight,
        limits=_check_limits(limits),
    )


def _check_limits(limits: ResourceLimits | None) -> ResourceLimits:
    if limits is None:
        return ResourceLimits()
    given: object = limits
    if isinstance(given, ResourceLimits):
        return given
    kind = type(given)
    if kind.__name__ == "Limits" and kind.__module__.partition(".")[0] == "httpx":
        advice = ": pass max_in_flight= for the most connections at once"
    else:
        advice = ": pass ResourceLimits(…)"
    raise ConfigurationError(f"limits must be a ResourceLimits, got {named(given)}{advice}")


def _check_base_url(url: str, *, allow_insecure: bool) -> str:
    if not isinstance(allow_insecure, bool):
        raise ConfigurationError(
            f"allow_insecure must be True or False, got {allow_insecure!r}"
        )
    if not isinstance(url, str) or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError(
            "base_url must be a URL without spaces, control characters or backslashes"
        )
    problem = "base_url must be an http:// or https:// URL with a host and an optional port"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may quote credentials
        raise ConfigurationError(problem) from None
    if parts.username is not None:
        raise ConfigurationError(
            "base_url must not contain credentials: pass the key as api_key="
        )
    if (
        parts.scheme not in DEFAULT_PORTS
        or not host
        or port == 0
        or not (_is_whole(parts.netloc) and is_host_name(host))
    ):
        raise ConfigurationError(f"{problem}{_meant(url)}")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"base_url must not have a query or a fragment, got {url!r}")
    if parts.scheme == "http" and not (allow_insecure or is_loopback(host)):
        raise ConfigurationError(
            f"base_url {url!r} would send the key unencrypted: use https://, or "
            "pass allow_insecure=True if you trust the network"
        )
    return origin_of(parts.scheme, host, port)


def _meant(url: str) -> str:
    """Return the end of a message: what was given, unless it may hold a password."""
    if "@" in url:
        return ""
    if "://" in url:
        return f", got {url!r}"
    host = url.partition("/")[0].partition(":")[0]
    scheme = "http" if is_loopback(host) else "https"
    return f", got {url!r}: pass '{scheme}://{url}'" if host else f", got {url!r}"


def _is_whole(netloc: str) -> bool:
    """Whether the brackets of an IPv6 address are followed by nothing but a port."""
    before, bracket, rest = netloc.partition("[")
    return not bracket or (not before and rest.partition("]")[2][:1] in {"", ":"})


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """Return ``scheme://host:port`` in a normal form, so that equal origins compare equal."""
    name = f"[{host}]" if ":" in host else host.lower().rstrip(".")
    return f"{scheme}://{name}:{port or DEFAULT_PORTS.get(scheme, 0)}"


def host_of(url: str) -> str:
    """Return what messages call the host of a checked URL: with its port unless it is usual."""
    parts = urlsplit(url)
    name, port = parts.hostname or "", parts.port
    shown = f"[{name}]" if ":" in name else name
    return shown if port in {None, DEFAULT_PORTS.get(parts.scheme)} else f"{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: exactly ``localhost``, or an IP address.

    A resolver decides about every other name, and about spellings such as ``127.1``.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def is_host_name(host: str) -> bool:
    """Whether the labels of a host name have a length that a resolver accepts."""
    return all(1 <= len(label) <= _LABEL for label in host.removesuffix(".").split("."))


def lower_scheme(url: str) -> str:
    """Return an absolute URL with its scheme in lower case, as everything compares it."""
    scheme, colon, rest = url.partition(":")
    return scheme.lower() + colon + rest
