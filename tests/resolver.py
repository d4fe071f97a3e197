"""Host names that resolve as a test says."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from modelmax_async._http.addresses import is_address

Answer = Sequence[str] | Callable[[], Sequence[str]]


def resolving(monkeypatch: pytest.MonkeyPatch, hosts: Mapping[str, Answer]) -> list[str]:
    """Resolve these hosts to these addresses, and no other; return the names asked for."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> list[Any]:
        if is_address(host):
            return real(host, *rest, **options)
        asked.append(host)
        if host not in hosts:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        found = hosts[host]
        addresses = found() if callable(found) else found
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, 0, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 0))
            for each in addresses
        ]

    monkeypatch.setattr("modelmax_async._http.lookups.socket.getaddrinfo", getaddrinfo)
    return asked
