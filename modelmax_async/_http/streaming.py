"""Streaming: response bodies of any size, from the API's origin or another host."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus

import attrs
import httpx

from modelmax_async._api.messages import Call, Reply
from modelmax_async._api_key import ApiKey
from modelmax_async._errors import TransportError
from modelmax_async._http.addresses import RefusedError, public
from modelmax_async._http.body import beginning, paced
from modelmax_async._http.exchange import Exchange, translate
from modelmax_async._http.lookups import Known
from modelmax_async._http.network import Network
from modelmax_async._http.own_client import PlainClient
from modelmax_async._http.proxies import needs_tls, network_to, open_transport, proxy_for
from modelmax_async._http.redaction import quiet
from modelmax_async._http.report import Server, report
from modelmax_async._http.routes import Routes
from modelmax_async._http.slots import Slots
from modelmax_async._http.timeouts import Limits
from modelmax_async._models import Job
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.threads import in_thread
from modelmax_async._settings import Settings, host_of

_ONE = httpx.Limits(max_connections=1, max_keepalive_connections=0)


@attrs.frozen
class Incoming:
    """A response whose body has not been read; header names in lower case.

    If its status is an error, ``refusal`` has the beginning of the body.
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]
    refusal: Reply | None = None


@attrs.define
class Receiver:
    """Sends GETs whose bodies are streamed. Used only from tasks that the client owns."""

    _settings: Settings
    _slots: Slots
    _routes: Routes
    _headers: httpx.Headers
    _limits: Limits
    _hooks: Hooks
    _trusted: ssl.SSLContext | None = attrs.field(default=None, init=False)
    _trusting: asyncio.Lock = attrs.field(factory=asyncio.Lock, init=False)

    @property
    def _key(self) -> ApiKey:
        return self._settings.key

    @property
    def injected(self) -> bool:
        """Whether a client of the caller's decides how hosts are reached."""
        return self._routes.injected

    @asynccontextmanager
    async def receive(
        self, url: str, headers: Mapping[str, str], *, with_key: bool, job: Job | None = None
    ) -> AsyncIterator[Incoming]:
        """Send a GET in a slot, and lend the response before its body is read.

        The connection belongs to this request and ends with it, so that a body left unread
        costs nothing. No redirect is followed, and nothing is decompressed. Without the key,
        the headers and cookies of a caller's client are not sent either: they are not meant for
        this host, which must have public addresses only.

        Raises:
            TransportError: if no response was received; from the chunks, if the body broke off.
            RefusedError: if the host has an address that it must not have.
        """
        proxy = None if self.injected else proxy_for(url)
        network = await self._network(url, proxy, with_key=with_key)
        async with (
            self._slots.long_slot(),
            self._client(url, proxy, network) as client,
            self._reported(url, job) as exchange,
        ):
            response = await self._begin(client, exchange, url, headers, with_key=with_key)
            try:
                fields = {k: self._key.hide_in(v) for k, v in response.headers.items()}
                if response.is_stream_consumed:
                    # By a hook of the caller's client, which also decompressed it.
                    for name in ("content-encoding", "content-length"):
                        fields.pop(name, None)
                host = host_of(url)
                async with aclosing(self._chunks(response, exchange, host)) as chunks:
                    refusal = None
                    if response.status_code >= HTTPStatus.BAD_REQUEST:
                        body = await beginning(chunks, self._settings.limits.response_bytes)
                        said = Reply(response.status_code, fields, body, host=host)
                        refusal = quiet(said, self._key)
                    yield Incoming(response.status_code, fields, chunks, refusal)
            finally:
                with suppress(httpx.HTTPError, OSError):
                    await response.aclose()

    @asynccontextmanager
    async def _reported(self, url: str, job: Job | None) -> AsyncIterator[Exchange]:
        """Make an exchange, and tell the hooks and the log how it ended."""
        exchange = Exchange()
        if self._hooks.wants():
            exchange.seconds = clock.stopwatch()
        try:
            yield exchange
        except asyncio.CancelledError as exc:
            exchange.broken = type(exc).__name__
            raise
        finally:
            call = Call("GET", "", job=job)
            report("content", call, Server.of(url), exchange, self._hooks)

    async def _begin(
        self,
        client: httpx.AsyncClient,
        exchange: Exchange,
        url: str,
        headers: Mapping[str, str],
        *,
        with_key: bool,
    ) -> httpx.Response:
        failure: TransportError | RefusedError
        try:
            own = self._headers.copy()
            own["accept"] = "*/*"
            if not with_key:
                del own["authorization"]
            own.update(headers)
            build = client.build_request if with_key else httpx.Request
            extensions = {**self._limits.extensions, "trace": exchange.trace}
            in_full = self._key.restore_in if with_key else str
            async with asyncio.timeout(self._limits.ceiling()):
                await exchange.begin(self._routes.kind, by_trace=True)
                response = await client.send(
                    # Its URL may contain the key, so it is in no variable of a traceback.
                    build("GET", in_full(url), headers=own, extensions=extensions),
                    stream=True,
                    auth=None,
                    follow_redirects=False,
                )
                exchange.answer()
                exchange.status = response.status_code
                return response
        except RefusedError as exc:
            exchange.broken = type(exc).__name__
            failure = RefusedError(str(exc))
        except Exception as exc:  # noqa: BLE001 - whatever broke it, it has one error
            exchange.broken = type(exc).__name__
            failure = translate(exc, exchange, None, self._key, host=host_of(url))
        # Outside the handler: the error that users see holds no frame, and so no key.
        raise failure

    async def _chunks(
        self, response: httpx.Response, exchange: Exchange, host: str
    ) -> AsyncGenerator[bytes, None]:
        """Yield the body as it is on the wire, and stop waiting for a server that is silent.

        The SDK's own connections have a time limit themselves. A caller's may have none.
        """
        failure: TransportError
        parts = paced(response.stream)  # type: ignore[arg-type]  # an async client's
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
            exchange.broken = type(exc).__name__
            failure = translate(exc, exchange, None, self._key, host=host)
        raise failure

    async def _network(self, url: str, proxy: str | None, *, with_key: bool) -> Network:
        """Return how a server is reached, before a slot is taken.

        A response may name hundreds of hosts whose look-ups take long: in slots, they would
        hold up every other download.

        A host that a proxy reaches is looked up by the proxy. It is looked up here too, because
        a name may tell that it is private, but the proxy may get other addresses.
        """
        lookups = self._routes.lookups
        if with_key or self.injected:
            return network_to(url, lookups)
        host, seconds = Server.of(url).host, self._limits.extensions["timeout"]["connect"]
        known = await Known.of(host, lookups, public, seconds)
        if proxy is None:
            return Network(known)
        with suppress(httpx.ConnectError, httpx.ConnectTimeout):
            await known.addresses(host, trusted=False)
        return network_to(url, lookups)

    @asynccontextmanager
    async def _client(
        self, url: str, proxy: str | None, network: Network
    ) -> AsyncIterator[httpx.AsyncClient]:
        """Lend the caller's client, or one of a single connection.

        A kept connection would have to be read to the end of the body. And the SDK's own kept
        connections trust no certificate if the base URL is plain HTTP on this machine; this one
        does, because it may reach another host.
        """
        if self.injected:
            yield self._routes.client
            return
        tls = await self._trust() if needs_tls(url, proxy) else None
        async with PlainClient(open_transport(_ONE, proxy, tls=tls, network=network)) as made:
            yield made

    async def _trust(self) -> ssl.SSLContext:
        """Return the context that checks certificates, loaded once and off the event loop."""
        async with self._trusting:
            if self._trusted is None:
                self._trusted = await in_thread(httpx.create_ssl_context)
            return self._trusted
