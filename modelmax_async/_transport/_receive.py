"""Receiving: a body of any size, lent while it comes, from the API's origin or another host."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import anyio.to_thread
import attrs
import httpx

from modelmax_async._errors import TransportError
from modelmax_async._transport._exchange import Exchange, translate
from modelmax_async._transport._lanes import Lanes

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=0)


@attrs.frozen
class Incoming:
    """An answer whose body is still to come, as it is on the wire; names in lower case."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class _Borrowed(httpx.AsyncBaseTransport):
    """A transport of the caller's, which a client of ours must not close."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._inner.handle_async_request(request)


class Receiver:
    """Sends GETs whose bodies are streamed. Used only from tasks that the client owns."""

    def __init__(
        self,
        lanes: Lanes,
        injected: httpx.AsyncClient | httpx.AsyncBaseTransport | None,
        headers: httpx.Headers,
        phases: Mapping[str, Any],
        ceiling: Callable[[int], float | None],
    ) -> None:
        self._lanes = lanes
        if isinstance(injected, httpx.AsyncBaseTransport):
            injected = httpx.AsyncClient(transport=_Borrowed(injected))
        self._injected = injected
        self._headers = headers
        self._phases = phases
        self._ceiling = ceiling
        self._trusted: ssl.SSLContext | None = None

    @property
    def injected(self) -> bool:
        """Whether a client of the caller's own decides how hosts are reached."""
        return self._injected is not None

    @asynccontextmanager
    async def receive(
        self, url: str, headers: Mapping[str, str], *, with_key: bool
    ) -> AsyncIterator[Incoming]:
        """Send a GET in a slot, and lend the answer before its body has come.

        The connection is the request's own and ends with it, so that a body left unread
        costs nothing. No redirect is followed, and nothing is decompressed.

        Args:
            url: absolute; the caller has judged its host.
            headers: what to send beside the client's own.
            with_key: whether the key goes along. Without it nothing of an injected
                client's goes along either: its headers and cookies are not for this host.

        Raises:
            TransportError: when no answer came; from the chunks, when the body broke off.
        """
        async with self._lanes.slot(), self._courier(url) as client:
            response = await self._begin(client, url, headers, with_key=with_key)
            try:
                fields = dict(response.headers.items())
                async with aclosing(self._chunks(response)) as chunks:
                    yield Incoming(response.status_code, fields, chunks)
            finally:
                with suppress(httpx.HTTPError, OSError):
                    await response.aclose()

    async def _begin(
        self,
        client: httpx.AsyncClient,
        url: str,
        headers: Mapping[str, str],
        *,
        with_key: bool,
    ) -> httpx.Response:
        exchange = Exchange()
        failure: TransportError
        try:
            own = self._headers.copy()
            own["accept"] = "*/*"
            if not with_key:
                del own["authorization"]
            own.update(headers)
            make = client.build_request if self.injected and with_key else httpx.Request
            extensions = {**self._phases, "trace": exchange.trace}
            request = make("GET", url, headers=own, extensions=extensions)
            async with asyncio.timeout(self._ceiling(1)):
                return await client.send(
                    request, stream=True, auth=None, follow_redirects=False
                )
        except Exception as exc:  # noqa: BLE001 - whatever broke it, it has one error
            failure = translate(exc, exchange, None)
        # Outside the handler: the error that users see drags no frames along, and so no key.
        raise failure

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes off the wire; a server that falls silent is left.

        Our own connections see to that themselves. A caller's transport may have no limits.
        """
        failure: TransportError
        parts: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]  # an async client's
        limit = self._ceiling(1) if self.injected else None
        try:
            if limit is None:
                async for chunk in parts:
                    yield chunk
                return
            while True:
                async with asyncio.timeout(limit):
                    part = await anext(parts, None)
                if part is None:
                    return
                yield part
        except Exception as exc:  # noqa: BLE001 - as above
            failure = translate(exc, Exchange(sent=True), None)
        raise failure

    @asynccontextmanager
    async def _courier(self, url: str) -> AsyncIterator[httpx.AsyncClient]:
        """Lend a client of one connection: a kept one would have to be read to the end.

        The lanes' own do not check certificates where the base URL is plain HTTP on this
        machine; this one does, as other hosts are reached through it.
        """
        if self._injected is not None:
            yield self._injected
            return
        verify: ssl.SSLContext | bool = False  # of no meaning without TLS, and slow to load
        if url.startswith("https:"):
            if self._trusted is None:
                self._trusted = await anyio.to_thread.run_sync(httpx.create_ssl_context)
            verify = self._trusted
        async with httpx.AsyncClient(verify=verify, limits=_ONE) as client:
            yield client
