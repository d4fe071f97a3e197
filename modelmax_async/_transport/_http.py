"""Sending: one request in one slot, read whole, mapped to our values and errors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import attrs
import httpx

from modelmax_async._errors import TransportError
from modelmax_async._messages import Call, Reply
from modelmax_async._settings import Settings
from modelmax_async._transport._body import read_body
from modelmax_async._transport._clients import HTTPClient, builder_of, open_response
from modelmax_async._transport._exchange import Exchange, translate
from modelmax_async._transport._lanes import Lanes
from modelmax_async._transport._limits import Timeout, read_limits
from modelmax_async._transport._quiet import quiet
from modelmax_async._transport._receive import Receiver
from modelmax_async._version import VERSION


@attrs.frozen
class Prepared:
    """A call, its URL parsed: what is made many times is parsed once."""

    call: Call
    url: httpx.URL


class Transport:
    """Sends calls, each in a slot. Used only from tasks that the client owns."""

    def __init__(
        self, settings: Settings, timeout: Timeout, http_client: HTTPClient | None
    ) -> None:
        self._settings = settings
        self._limits = read_limits(timeout)
        self.longest = self._limits.longest
        self._lanes = Lanes(settings.max_in_flight, settings.origin)
        self._injected = http_client
        self._headers = httpx.Headers(
            {
                "authorization": f"Bearer {settings.key.reveal()}",
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": f"modelmax-async/{VERSION}",
            }
        )
        self.receiver = Receiver(
            settings, self._lanes, http_client, self._headers, self._limits
        )

    def __repr__(self) -> str:
        return f"<Transport to {self._settings.origin}: {self._lanes!r}>"

    def prepare(self, call: Call) -> Prepared:
        """Parse the URL of a call: a path behind the base URL, whose own path it may repeat."""
        base = self._settings.base_url
        prefix = urlsplit(base).path
        if prefix and call.path.startswith(prefix + "/"):
            base = base.removesuffix(prefix)  # as a server behind a prefix spells its paths
        return Prepared(call, httpx.URL(base + call.path))

    async def poll(self, prepared: Prepared) -> Reply:
        """Make a free call, on a connection that is kept for the next.

        Raises:
            TransportError: when no whole answer came.
        """
        request = self._request(prepared, self._limits.extensions)
        return await self._send(request, prepared.call, None, keep=False)

    async def submit(self, call: Call) -> Reply:
        """Send a submit, once, on a fresh connection.

        A stale one would leave it open whether a job was created.

        Raises:
            TransportError: when no whole answer came; ``maybe_sent`` says what that means.
        """
        return await self._send_traced(call, Exchange(once=True), keep=False)

    async def send_once(self, call: Call, exchange: Exchange) -> Reply:
        """Send on a fresh HTTP/1.1 connection, at most once, keeping an answer of any size.

        ``exchange.before_send`` runs just before byte 0; what it raises is raised here, and
        then nothing was sent. A client of the caller's own may emit no trace events, so
        there it runs before the exchange begins.
        """
        return await self._send_traced(call, exchange, keep=True)

    async def aclose(self) -> None:
        """Close what this transport opened; an injected client stays open."""
        await self._lanes.aclose()

    async def _send_traced(self, call: Call, exchange: Exchange, *, keep: bool) -> Reply:
        traced = {**self._limits.extensions, "trace": exchange.trace}
        request = self._request(self.prepare(call), traced)
        return await self._send(request, call, exchange, keep=keep)

    async def _send(
        self, request: httpx.Request, call: Call, exchange: Exchange | None, *, keep: bool
    ) -> Reply:
        """Send in a slot; with an exchange, on a fresh connection and traced."""
        async with self._lanes.slot():
            lane = None
            if (client := self._injected) is None:
                client = lane = self._lanes.take(fresh=exchange is not None)
            came: Reply | TransportError | None = None
            try:
                _check_open(client)
                if exchange is not None:
                    exchange.waiting = False
                    if self._injected is not None:
                        await exchange.begin_unseen()
                async with asyncio.timeout(self._limits.ceiling(10 if keep else 1)):
                    came = await self._exchange(client, request, exchange, keep=keep)
            except Exception as exc:
                if exchange is not None and exc is exchange.refusal:
                    raise
                came = translate(exc, exchange or Exchange(), call.job, self._settings.key)
            finally:
                if lane is not None:
                    await self._lanes.give_back(lane, good=isinstance(came, Reply))
        if isinstance(came, TransportError):
            # Outside the handler: what users see drags no frames along, and so no key.
            raise came
        return quiet(came, self._settings.key, paid=keep)

    async def _exchange(
        self,
        client: HTTPClient,
        request: httpx.Request,
        exchange: Exchange | None,
        *,
        keep: bool,
    ) -> Reply:
        response = await open_response(client, request)
        if exchange is not None:
            exchange.sent = exchange.answered = True
        if response.is_stream_consumed:  # by a hook of the caller's client, and decompressed
            headers = {k: v for k, v in response.headers.items() if k != "content-encoding"}
            return Reply(response.status_code, headers, response.content)
        try:
            body, kept_at = await read_body(response.stream, keep=keep)  # type: ignore[arg-type]  # an async client's
        finally:
            with suppress(Exception):  # the body is here, and worth more than a clean end
                await response.aclose()
        return Reply(response.status_code, response.headers, body, kept_at)

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


def _check_open(client: HTTPClient) -> None:
    if isinstance(client, httpx.AsyncClient) and client.is_closed:
        raise httpx.ConnectError("the http_client given to this client is closed")
