"""Sending: one request in one slot, its response read whole, mapped to values and errors."""

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
from modelmax_async._errors.sentences import clause, plain
from modelmax_async._http.body import read_whole
from modelmax_async._http.connections import FRESH
from modelmax_async._http.exchange import Exchange, Traced, translate
from modelmax_async._http.own_client import ClientOrTransport
from modelmax_async._http.redaction import answer_quietly
from modelmax_async._http.report import Server, report
from modelmax_async._http.responses import Failed, close, disconnect, judge
from modelmax_async._http.routes import Routes
from modelmax_async._http.slots import Slots
from modelmax_async._http.streaming import Receiver
from modelmax_async._http.timeouts import Timeout, read_limits
from modelmax_async._http.transports import TRACING, Kind
from modelmax_async._reprs import always_shown
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._settings import Settings, host_of
from modelmax_async._version import VERSION
from modelmax_async.events import CallKind

T = TypeVar("T")

#: Seconds that the connection of a paid response gets to close.
_CLOSING = 5.0


@attrs.frozen
class Prepared:
    """A call, its URL parsed: what is sent many times is parsed once."""

    call: Call
    url: httpx.URL


@always_shown
class HTTPClient:
    """Sends calls, each in a slot. Used only from tasks that the client owns."""

    def __init__(
        self,
        settings: Settings,
        timeout: Timeout,
        http_client: ClientOrTransport | None,
        hooks: Hooks | None = None,
    ) -> None:
        self._settings = settings
        self._host = host_of(settings.base_url)
        self._hooks = hooks or Hooks()
        self.server = Server.of(settings.origin)
        self._limits = read_limits(timeout)
        self.longest = self._limits.longest
        self._routes = Routes(settings, http_client)
        self._slots = Slots(settings.max_in_flight)
        # Whether trace events announced the last request that was watched; None: none was.
        self._announced: bool | None = None
        self._headers = httpx.Headers(
            {
                "authorization": f"Bearer {settings.key.reveal()}",
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": f"modelmax-async/{VERSION}",
            }
        )
        self.receiver = Receiver(
            settings, self._slots, self._routes, self._headers, self._limits, self._hooks
        )

    def __repr__(self) -> str:
        return f"<HTTPClient to {self._settings.origin}: {self._slots!r}, {self._routes!r}>"

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
        about = f" of job {plain(call.job.request_id[:200])}" if call.job is not None else ""
        raise ValueError(
            f"the URL{about} cannot be requested: {clause(problem)}. Nothing was sent"
        )

    async def poll(self, prepared: Prepared, read: Callable[[Reply], T]) -> T:
        """Make a free call, on a connection that is kept for the next.

        ``read`` makes a value of the response while the connection is still lent: if it raises
        `InvalidResponseError`, no other call gets that connection, whose responses may be out
        of step with its requests.

        Raises:
            TransportError: if no complete response was received; and whatever ``read`` raises.
        """
        exchange = Exchange()
        extensions = self._limits.extensions
        if self._announced is None and self._routes.kind in TRACING:
            extensions = {**extensions, "trace": exchange.trace}  # only until that is known
        request = self._request(prepared, extensions)
        return await self._send("status", request, prepared.call, exchange, read)

    async def submit(self, call: Call) -> Reply:
        """Send a submit, once, on a new connection.

        A kept connection could break and leave it open whether a job was created.

        Raises:
            TransportError: if no complete response was received; see its ``maybe_sent``.
        """
        return await self._send_fresh("submit", call, Exchange(once=True))

    async def send_once(self, call: Call, exchange: Exchange) -> Reply:
        """Send on a new HTTP/1.1 connection, at most once, and keep a response of any size.

        ``exchange.before_send`` runs just before byte 0 if the transport is known to emit trace
        events, and otherwise before the exchange begins. What it raises is raised here.
        ``exchange.ended`` is for the caller to emit, once the response is recorded.
        """
        return await self._send_fresh("result", call, exchange)

    def address(self, call: Call) -> str:
        """Return the URL of a call that was prepared before, without its query."""
        return str(self.prepare(call).url.copy_with(query=None, fragment=None))

    async def aclose(self) -> None:
        """Close the SDK's own connections; the caller's client stays open."""
        await self._routes.aclose()

    async def _send_fresh(self, kind: CallKind, call: Call, exchange: Exchange) -> Reply:
        extensions = {**self._limits.extensions, **FRESH, "trace": exchange.trace}
        request = self._request(self.prepare(call), extensions)
        return await self._send(kind, request, call, exchange, lambda reply: reply)

    async def _send(
        self,
        kind: CallKind,
        request: httpx.Request,
        call: Call,
        exchange: Exchange,
        read: Callable[[Reply], T],
    ) -> T:
        """Send in a slot, and note how that ended if a hook or the log wants to know."""
        outcome: T | Failed | None = None
        async with self._slots.slot():
            if self._hooks.wants():
                exchange.seconds = clock.stopwatch()
            try:
                keep = kind == "result"
                outcome = await self._attempt(request, call, exchange, read, keep=keep)
            except BaseException as exc:
                exchange.broken = type(exc).__name__
                raise
            finally:
                if exchange.seconds is not None:
                    report(kind, call, self.server, exchange, self._hooks, outcome=outcome)
        if isinstance(outcome, Failed):
            # Outside the handler: the error that users see holds no frame, and so no key.
            raise outcome.error
        return outcome

    async def _attempt(
        self,
        request: httpx.Request,
        call: Call,
        exchange: Exchange,
        read: Callable[[Reply], T],
        *,
        keep: bool,
    ) -> T | Failed:
        """Send within the time limit of a whole request; raise only what is not its failure."""
        try:
            async with asyncio.timeout(self._limits.ceiling(10 if keep else 1)):
                kind, client = self._route(request.url, once=exchange.once)
                by_trace = kind in TRACING and self._announced is True
                await exchange.begin(kind, by_trace=by_trace)
                return await self._exchange(client, request, exchange, read, keep=keep)
        except Exception as exc:
            if exc is exchange.refusal:
                raise
            if exchange.reply is not None:  # complete before this was raised
                return judge(read, exchange.reply)
            exchange.broken = type(exc).__name__
            key = self._settings.key
            return Failed(translate(exc, exchange, call.job, key, host=self._host))

    def _route(self, url: httpx.URL, *, once: bool) -> tuple[Kind, httpx.AsyncClient]:
        """Return the client that sends a request, and the kind of its transport."""
        if self._routes.client.is_closed:
            raise httpx.ConnectError("the http_client given to this client is closed")
        return self._routes.once(url) if once else (self._routes.kind, self._routes.client)

    async def _exchange(
        self,
        client: httpx.AsyncClient,
        request: httpx.Request,
        exchange: Exchange,
        read: Callable[[Reply], T],
        *,
        keep: bool,
    ) -> T | Failed:
        response = await client.send(request, stream=True, auth=None, follow_redirects=False)
        exchange.answer()
        exchange.status = response.status_code
        self._learn(exchange)
        try:
            whole = await read_whole(response, exchange, self._settings, keep=keep)
            reply = await answer_quietly(exchange, whole, self._settings.key)
            outcome = judge(read, reply)
            if isinstance(outcome, Failed) and isinstance(outcome.error, InvalidResponseError):
                exchange.broken = type(outcome.error).__name__
                await disconnect(response)  # the next response may belong elsewhere, too
        finally:
            with suppress(Exception):  # the body is here, and worth more than a clean close
                await close(response, _CLOSING if keep else None)
        return outcome

    def _learn(self, exchange: Exchange) -> None:
        """Note whether trace events announce byte 0: a mock below the transport emits none."""
        if exchange.kind in TRACING and (exchange.once or self._announced is None):
            self._announced = exchange.traced is Traced.START

    def _request(self, prepared: Prepared, extensions: Mapping[str, Any]) -> httpx.Request:
        call = prepared.call
        request = self._routes.client.build_request(
            call.method,
            prepared.url,
            headers=self._headers,
            content=call.body,
            extensions=extensions,
        )
        if call.body is not None:
            request.headers["content-type"] = "application/json"
        return request
