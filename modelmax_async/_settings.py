"""Settings: the environment, the base URL, and the key that is shown nowhere."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal, NoReturn
from urllib.parse import urlsplit

import attrs

from modelmax_async._errors import ConfigurationError
from modelmax_async._validators import check_segment

DEFAULT_BASE_URL = "https://api.modelmax.io"
DEFAULT_PORTS = {"http": 80, "https": 443}
_HIDDEN, _LEAST = "sk-...", 8
OnUncertain = Literal["raise", "refetch"]


class ApiKey:
    """The key. ``reveal`` is the one way to it; repr, pickle and copies have none."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the key itself, for the Authorization header."""
        return self._value

    def hide_in(self, text: str) -> str:
        """Return a text of somebody else's less the key, if that is one that nobody guesses."""
        if len(self._value) < _LEAST:
            return text
        escaped = self._value.replace("/", "\\/")  # as some write it in JSON
        return text.replace(self._value, _HIDDEN).replace(escaped, _HIDDEN)

    def __repr__(self) -> str:
        return "ApiKey('sk-…')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled")


@attrs.frozen(kw_only=True)
class Settings:
    """What a client was told, checked. ``origin`` is scheme, host and port."""

    key: ApiKey
    base_url: str
    origin: str
    model: str | None
    on_uncertain: OnUncertain
    max_in_flight: int


def read_settings(
    *,
    api_key: ApiKey | str,
    base_url: str | None,
    model: str | None,
    on_uncertain: str,
    max_in_flight: int,
    allow_insecure: bool,
    environ: Mapping[str, str],
) -> Settings:
    """Check every setting before any I/O.

    Raises:
        ConfigurationError: names the setting and how to mend it, never the key.
    """
    url = base_url if base_url is not None else environ.get("MODELMAX_API_BASE_URL")
    url = url or DEFAULT_BASE_URL
    del environ  # it holds the key, and a traceback may show what this frame holds
    if isinstance(api_key, str):
        raise ConfigurationError(api_key)
    origin = _check_base_url(url, allow_insecure=allow_insecure)
    if on_uncertain not in {"raise", "refetch"}:
        raise ConfigurationError(f"on_uncertain is 'raise' or 'refetch'; not {on_uncertain!r}")
    if isinstance(max_in_flight, bool) or not isinstance(max_in_flight, int):
        raise ConfigurationError("max_in_flight is a whole number")
    if not 1 <= max_in_flight <= 1024:  # noqa: PLR2004 - each slot is a connection
        raise ConfigurationError(f"max_in_flight is from 1 to 1024; not {max_in_flight}")
    if model is not None:
        try:
            check_segment("model", model)
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from exc
    return Settings(
        key=api_key,
        base_url=url.rstrip("/"),
        origin=origin,
        model=model,
        on_uncertain="refetch" if on_uncertain == "refetch" else "raise",
        max_in_flight=max_in_flight,
    )


def read_key(api_key: object, environ: Mapping[str, str]) -> ApiKey | str:
    """Return the key, or what is wrong with it: a text that holds none of it.

    It does not raise, so that no traceback has a frame with the key in it.
    """
    value = environ.get("MODELMAX_API_KEY") if api_key is None else api_key
    if value is None or value == "":
        return "no API key: set MODELMAX_API_KEY or pass api_key="
    if not isinstance(value, str):
        return "the API key is not a str"
    if not (value.isascii() and value.isprintable()) or " " in value:
        return (
            "the API key is malformed: a key is printable ASCII without spaces or line "
            "breaks (look for a stray newline where it was copied from)"
        )
    return ApiKey(value)


def _check_base_url(url: str, *, allow_insecure: bool) -> str:
    if not isinstance(url, str) or not url.isprintable() or " " in url or "\\" in url:
        raise ConfigurationError("base_url holds characters that no URL has")
    problem = "is no http:// or https:// URL with a host and, perhaps, a port"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text may quote credentials
        raise ConfigurationError(f"base_url {problem}") from None
    if parts.username is not None:
        raise ConfigurationError("base_url holds credentials: pass the key as api_key=")
    if (
        parts.scheme not in DEFAULT_PORTS
        or not host
        or port == 0
        or not _is_whole(parts.netloc)
    ):
        raise ConfigurationError(f"base_url {url!r} {problem}")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"base_url {url!r} has a query or a fragment")
    if parts.scheme == "http" and not (allow_insecure or is_loopback(host)):
        raise ConfigurationError(
            f"base_url {url!r} would send the key unencrypted: use https://, or "
            "allow_insecure=True where you know the network"
        )
    return origin_of(parts.scheme, host, port)


def _is_whole(netloc: str) -> bool:
    """Whether nothing stands beside the brackets of an IPv6 address but a port."""
    before, bracket, rest = netloc.partition("[")
    return not bracket or (not before and rest.partition("]")[2][:1] in {"", ":"})


def origin_of(scheme: str, host: str, port: int | None) -> str:
    """Return ``scheme://host:port`` in one spelling, so that origins compare equal."""
    name = f"[{host}]" if ":" in host else host.lower().rstrip(".")
    return f"{scheme}://{name}:{port or DEFAULT_PORTS.get(scheme, 0)}"


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by name or by address."""
    if host.lower().rstrip(".") in {"localhost", "ip6-localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().endswith(".localhost")
