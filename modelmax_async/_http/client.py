"""Sending: one request in one slot, read whole, mapped to our values and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs
import httpx

from modelmax_async._api.messages import Call, Reply
from modelmax_async._errors import InvalidResponseError
from modelmax_async._http.body import read_whole
from modelmax_async._http.clients import HTTPClient, builder_of, close, hang_up, open_response
from modelmax_async._http.connections import Lanes
from modelmax_async._http.exchange import Exchange, Progress, translate
from modelmax_async._http.redaction import quiet
from modelmax_async._http.routes import Routes
from modelmax_async._http.streaming import Receiver
from modelmax_async._http.timeouts import Timeout, read_limits
from modelmax_async._http.transports import TRACING, Kind
from modelmax_async._settings import Settings
from modelmax_async._version import VERSION

T = TypeVar("T")

#: Seconds that the end of a paid answer's connection gets, before the answer goes on without.
_CLOSING = 5.0


@attrs.frozen
class Prepared:
    """A call, its URL parsed: what is made many times is parsed once."""

    call: Call
    url: httpx.URL


@attrs.frozen
class _Failed:
    """What a call ends in, where it is an error: raised where no handler is left behind it."""

    error: Exception

    @property
    def spoils(self) -> bool:
        """Whether the answer belongs elsewhere, or nowhere: so may the connection's next."""
        return isinstance(self.error, InvalidResponseError)


class Transport:
    """Sends calls, each in a slot. Used only from tasks that the client owns."""

    def __init__(
        self, settings: Settings, timeout: Timeout, http_client: HTTPClient | None
    ) -> None:
        self._settings = settings
        self._limits = read_limits(timeout)
        self.longest = self._limits.longest
        self._routes = Routes(settings, http_client)
        self._lanes = Lanes(settings.max_in_flight, self._routes.opener)
        self._injected = http_client
        # Whether the last answer that told was announced by trace events; None: none told yet.
        self._traces: bool | None = None
        self._headers = httpx.Headers(
            {
                "authorization": f"Bearer {settings.key.reveal()}",
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": f"modelmax-async/{VERSION}",
            }
        )
        self.receiver = Receiver(
            settings,
            self._lanes,
            http_client,
            self._headers,
            self._limits,
            kind=self._routes.kind,
        )

    def __repr__(self) -> str:
        return f"<Transport to {self._settings.origin}: {self._lanes!r}>"

    def prepare(self, call: Call) -> Prepared:
        """Parse the URL of a call: a path behind the base URL, whose own path it may repeat."""
        base = self._settings.base_url
        prefix = urlsplit(base).path
        if prefix and call.path.startswith(prefix + "/"):
            base = base.removesuffix(prefix)  # as a server behind a prefix spells its paths
        try:
            return Prepared(call, httpx.URL(base + call.path))
        except httpx.InvalidURL as exc:
            problem = str(exc)
        about = f" of job {call.job.request_id[:200]}" if call.job is not None else ""
        raise ValueError(f"the URL{about} cannot be requested: {problem}. Nothing was sent")

    async def poll(self, prepared: Prepared, read: Callable[[Reply], T]) -> T:
        """Make a free call, on a connection that is kept for the next.

        Args:
            prepared: the call.
            read: makes a value of the answer. It runs while the connection is still lent: if
                it raises `InvalidResponseError`, no other call gets that connection, whose
                answers may be out of step with its requests.

        Raises:
            TransportError: when no whole answer came; and whatever ``read`` raises.
        """
        exchange = Exchange()
        extensions = self._limits.extensions
        if self._traces is None and self._routes.kind in TRACING:
            extensions = {**extensions, "trace": exchange.trace}  # only until that is known
        request = self._request(prepared, extensions)
        return await self._send(request, prepared.call, exchange, read, keep=False)

    async def submit(self, call: Call) -> Reply:
        """Send a submit, once, on a fresh connection.

        A stale one would leave it open whether a job was created.

        Raises:
            TransportError: when no whole answer came; ``maybe_sent`` says what that means.
        """
        return await self._send_traced(call, Exchange(once=True), keep=False)

    async def send_once(self, call: Call, exchange: Exchange) -> Reply:
        """Send on a fresh HTTP/1.1 connection, at most once, keeping an answer of any size.

        ``exchange.before_send`` runs just before byte 0, where the transport is known to emit
        trace events, and otherwise before the exchange begins; what it raises is raised here,
        and then nothing was sent. ``exchange.reply`` has the answer as soon as it is whole,
        even if this is then cancelled.
        """
        return await self._send_traced(call, exchange, keep=True)

    async def aclose(self) -> None:
        """Close what this transport opened; an injected client stays open."""
        await self._lanes.aclose()

    async def _send_traced(self, call: Call, exchange: Exchange, *, keep: bool) -> Reply:
        traced = {**self._limits.extensions, "trace": exchange.trace}
        request = self._request(self.prepare(call), traced)
        return await self._send(request, call, exchange, lambda reply: reply, keep=keep)

    async def _send(
        self,
        request: httpx.Request,
        call: Call,
        exchange: Exchange,
        read: Callable[[Reply], T],
        *,
        keep: bool,
    ) -> T:
        """Send in a slot; what must be sent once, on a fresh connection."""
        async with self._lanes.slot():
            lane: httpx.AsyncHTTPTransport | None = None
            good = False
            try:
                async with asyncio.timeout(self._limits.ceiling(10 if keep else 1)):
                    kind, client = self._route(request.url, once=exchange.once)
                    if client is None:
                        client = lane = self._lanes.take(fresh=exchange.once)
                    by_trace = kind in TRACING and self._traces is True
                    await exchange.begin(kind, by_trace=by_trace)
                    came = await self._exchange(client, request, exchange, read, keep=keep)
                good = not (isinstance(came, _Failed) and came.spoils)
            except Exception as exc:
                if exc is exchange.refusal:
                    raise
                if exchange.reply is not None:  # whole before whatever this was
                    came = _judge(read, exchange.reply)
                else:
                    came = _Failed(translate(exc, exchange, call.job, self._settings.key))
            finally:
                if lane is not None:
                    await self._lanes.give_back(lane, good=good)
        if isinstance(came, _Failed):
            # Outside the handler: what users see drags no frames along, and so no key.
            raise came.error
        return came

    def _route(self, url: httpx.URL, *, once: bool) -> tuple[Kind, HTTPClient | None]:
        """Return what carries a request, and the caller's client if it is that."""
        if isinstance(self._injected, httpx.AsyncClient) and self._injected.is_closed:
            raise httpx.ConnectError("the http_client given to this client is closed")
        kind = self._routes.kind_once(url) if once else self._routes.kind
        return kind, None if kind is Kind.OWN else self._injected

    async def _exchange(
        self,
        client: HTTPClient,
        request: httpx.Request,
        exchange: Exchange,
        read: Callable[[Reply], T],
        *,
        keep: bool,
    ) -> T | _Failed:
        response = await open_response(client, request)
        exchange.progress = Progress.ANSWERED
        self._learn(exchange)
        try:
            reply = await read_whole(response, keep=keep)
            exchange.reply = reply = quiet(reply, self._settings.key, paid=keep)
            came = _judge(read, reply)
            if isinstance(came, _Failed) and came.spoils:
                await hang_up(response)
        finally:
            with suppress(Exception):  # the body is here, and worth more than a clean end
                await close(response, _CLOSING if keep else None)
        return came

    def _learn(self, exchange: Exchange) -> None:
        """Keep whether trace events announce what is sent: a mock below may emit none."""
        watched = exchange.once or self._traces is None
        if watched and exchange.kind in TRACING:
            self._traces = exchange.started

    def _request(self, prepared: Prepared, extensions: Mapping[str, Any]) -> httpx.Request:
        call = prepared.call
        request = builder_of(self._injected)(
            call.method,
            prepared.url,
            headers=self._headers,
            content=call.body,
            extensions=extensions,
        )
        if call.body is not None:
            request.headers["content-type"] = "application/json"
        return request


def _judge(read: Callable[[Reply], T], reply: Reply) -> T | _Failed:
    try:
        return read(reply)
    except Exception as exc:  # noqa: BLE001 - it is raised where the connection is settled
        return _Failed(exc)
