"""How the SDK's own transports connect: to addresses that were looked up and checked here.

The HTTP library is given an IP address in the place of the host, so that it looks nothing up
a second time and gets another answer. Certificates and headers keep the name of the host:
the library takes these from the URL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import attrs
import httpx

from modelmax_async._http.addresses import Choice
from modelmax_async._http.lookups import Known, Lookups

#: Seconds after which the next address is tried beside those before (RFC 8305).
_STAGGER = 0.25
#: Addresses of a host that are tried at most.
_MOST = 8


@attrs.frozen
class Network:
    """How hosts are looked up, and which of their addresses are used.

    A configuration names the hosts of `Lookups`; one that a response names is `Known` before.
    """

    lookups: Lookups | Known
    choose: Choice | None = None

    def carry(self, transport: httpx.AsyncHTTPTransport) -> httpx.AsyncHTTPTransport:
        """Let a transport, which has no connection yet, connect through this network."""
        pool: Any = transport._pool  # noqa: SLF001 - a contract test pins it
        pool._network_backend = _Backend(pool._network_backend, self)  # noqa: SLF001 - as above
        return transport


@attrs.frozen
class _Backend:
    """A network backend of httpcore's, which gives the addresses to another that connects."""

    _inner: Any
    _network: Network

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, **options: Any
    ) -> Any:
        """Connect to the first address of a host that accepts.

        Raises:
            RefusedError: if the host has an address that it must not have.
            Exception: httpx's and httpcore's for a connection that could not be made.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._connect(host, port, **options)
        except TimeoutError:
            text = f"{host} was not reached in {timeout:g} seconds"
        raise httpx.ConnectTimeout(text)

    async def connect_unix_socket(self, path: str, **options: Any) -> Any:
        """Connect to a socket of this machine."""
        return await self._inner.connect_unix_socket(path, **options)

    async def sleep(self, seconds: float) -> None:
        """Wait before the library connects again."""
        await self._inner.sleep(seconds)

    async def _connect(self, host: str, port: int, **options: Any) -> Any:
        network = self._network
        found = await network.lookups.addresses(host, trusted=True)
        if network.choose is not None:
            found = network.choose(found)
        if len(found) == 1:
            return await self._inner.connect_tcp(found[0], port, **options)
        return await self._first(found[:_MOST], port, **options)

    async def _first(self, addresses: Sequence[str], port: int, **options: Any) -> Any:
        """Try addresses in turn, without waiting long for one, until one accepts."""
        tries: list[asyncio.Task[Any]] = []
        waiting: set[asyncio.Task[Any]] = set()
        winner: asyncio.Task[Any] | None = None
        try:
            while winner is None and (waiting or len(tries) < len(addresses)):
                if len(tries) < len(addresses):
                    address = addresses[len(tries)]
                    opening = self._inner.connect_tcp(address, port, **options)
                    tries.append(asyncio.create_task(opening))
                    waiting.add(tries[-1])
                pause = _STAGGER if len(tries) < len(addresses) else None
                ended, waiting = await asyncio.wait(
                    waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED
                )
                winner = next((each for each in ended if each.exception() is None), None)
            return await (winner or tries[0])
        finally:
            await _drop([each for each in tries if each is not winner])


async def _drop(tries: Sequence[asyncio.Task[Any]]) -> None:
    """Stop tries, and close what they have opened."""
    for each in tries:
        each.cancel()
        each.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    for each in tries:
        if each.done() and not each.cancelled() and each.exception() is None:
            await each.result().aclose()
