"""Receiving: a body of any size, lent while it comes, from the API's origin or another host."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress

import attrs
import httpx

from modelmax_async._api.messages import Reply
from modelmax_async._errors import TransportError
from modelmax_async._http.clients import HTTPClient, builder_of, open_response
from modelmax_async._http.connections import Lanes
from modelmax_async._http.exchange import Exchange, Progress, translate
from modelmax_async._http.proxies import open_transport, proxy_for
from modelmax_async._http.redaction import quiet
from modelmax_async._http.timeouts import Limits
from modelmax_async._http.transports import Kind
from modelmax_async._runtime.threads import in_thread
from modelmax_async._settings import Settings

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=0)
_ERRORS = 400
#: Bytes and seconds that the body of an error gets.
_MOST, _SOON = 64 * 1024, 5.0


@attrs.frozen
class Incoming:
    """An answer whose body is still to come, as it is on the wire; names in lower case.

    ``refusal`` is the answer with what came of its body, where that is an error's.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    refusal: Reply | None = None


class Receiver:
    """Sends GETs whose bodies are streamed. Used only from tasks that the client owns."""

    def __init__(
        self,
        settings: Settings,
        lanes: Lanes,
        injected: HTTPClient | None,
        headers: httpx.Headers,
        limits: Limits,
        *,
        kind: Kind,
    ) -> None:
        self._kind = kind
        self._key = settings.key
        self._lanes = lanes
        self._injected = injected
        self._headers = headers
        self._limits = limits
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
        async with self._lanes.long_slot(), self._courier(url) as client:
            response = await self._begin(client, url, headers, with_key=with_key)
            try:
                fields = {k: self._key.hide_in(v) for k, v in response.headers.items()}
                if response.is_stream_consumed:
                    # By a hook of the caller's client, which also decompressed it.
                    for name in ("content-encoding", "content-length"):
                        fields.pop(name, None)
                async with aclosing(self._chunks(response)) as chunks:
                    refusal = None
                    if response.status_code >= _ERRORS:
                        body = await _beginning(chunks)
                        refusal = quiet(Reply(response.status_code, fields, body), self._key)
                    yield Incoming(response.status_code, fields, chunks, refusal)
            finally:
                with suppress(httpx.HTTPError, OSError):
                    await response.aclose()

    async def _begin(
        self,
        client: HTTPClient,
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
            make = builder_of(client) if with_key else httpx.Request
            extensions = {**self._limits.extensions, "trace": exchange.trace}
            request = make("GET", url, headers=own, extensions=extensions)
            async with asyncio.timeout(self._limits.ceiling()):
                await exchange.begin(self._kind, by_trace=True)
                return await open_response(client, request)
        except Exception as exc:  # noqa: BLE001 - whatever broke it, it has one error
            failure = translate(exc, exchange, None, self._key)
        # Outside the handler: the error that users see drags no frames along, and so no key.
        raise failure

    async def _chunks(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Yield the body as it comes off the wire; a server that falls silent is left.

        Our own connections see to that themselves. A caller's transport may have no limits.
        """
        failure: TransportError
        parts: AsyncIterator[bytes] = aiter(response.stream)  # type: ignore[arg-type]  # an async client's
        limit = self._limits.ceiling() if self.injected else None
        try:
            if response.is_stream_consumed:
                yield response.content
                return
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
            failure = translate(exc, Exchange(progress=Progress.ANSWERED), None, self._key)
        raise failure

    @asynccontextmanager
    async def _courier(self, url: str) -> AsyncIterator[HTTPClient]:
        """Lend a transport of one connection: a kept one would have to be read to the end.

        The lanes' own do not check certificates where the base URL is plain HTTP on this
        machine; this one does, as other hosts are reached through it.
        """
        if self._injected is not None:
            yield self._injected
            return
        verify: ssl.SSLContext | bool = False  # of no meaning without TLS, and slow to load
        if url.startswith("https:"):
            if self._trusted is None:
                self._trusted = await in_thread(httpx.create_ssl_context)
            verify = self._trusted
        async with open_transport(_ONE, proxy_for(url), tls=verify) as made:
            yield made


async def _beginning(chunks: AsyncIterator[bytes]) -> bytes:
    """Return what comes soon of an error's body. What the error is, its status has said."""
    body = bytearray()
    with suppress(TransportError, TimeoutError):
        async with asyncio.timeout(_SOON):
            async for chunk in chunks:
                body += chunk[: _MOST - len(body)]
                if len(body) == _MOST:
                    break
    return bytes(body)
