"""Which IP addresses a request may go to. This module does no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest

import httpx

from modelmax_async._settings import is_loopback

#: Returns those addresses of a host that may be connected to, or raises.
Choice = Callable[[Sequence[str]], Sequence[str]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Not global, although Python 3.11 says so: site-local, IPv4-compatible and local NAT64.
_LOCAL = tuple(map(ipaddress.IPv6Network, ("fec0::/10", "::/96", "64:ff9b:1::/48")))


class RefusedError(Exception):
    """A host has an address that it must not have. The text says which rule it breaks."""


def public(addresses: Sequence[str]) -> Sequence[str]:
    """Return the addresses of another host than the API's.

    Raises:
        RefusedError: if any of them is not one of the public internet.
    """
    if any(map(is_private, addresses)):
        raise RefusedError("the host is in a private network")
    return addresses


def loopback(addresses: Sequence[str]) -> Sequence[str]:
    """Return the addresses of this machine: what ``localhost`` means is up to a resolver.

    Raises:
        httpx.ConnectError: if there is none.
    """
    found = [each for each in addresses if is_loopback(each)]
    if not found:
        raise httpx.ConnectError("localhost does not resolve to this machine")
    return found


def is_private(address: str) -> bool:
    """Return whether an IP address is not one of the public internet."""
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


def is_address(host: str) -> bool:
    """Return whether a host is an IP address in its usual spelling, which needs no look-up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_understood(url: str) -> bool:
    """Return whether the HTTP library can request a URL."""
    try:
        return bool(httpx.URL(url).host)  # of which each request decodes the IDNA
    except (httpx.InvalidURL, UnicodeError):
        return False


def in_turns(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with the families taking turns (RFC 8305), each of them once."""
    first = [each for each in addresses if (":" in each) == (":" in addresses[0])]
    second = [each for each in addresses if (":" in each) != (":" in addresses[0])]
    turns = chain.from_iterable(zip_longest(first, second))
    return list(dict.fromkeys(filter(None, turns)))
