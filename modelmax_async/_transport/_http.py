"""Sending: one request in one slot, read whole, mapped to our values and errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from modelmax_async._errors import ConfigurationError, TransportError
from modelmax_async._messages import Call, Reply
from modelmax_async._settings import Settings
from modelmax_async._transport._body import read_body
from modelmax_async._transport._exchange import Exchange, translate
from modelmax_async._transport._lanes import Lanes
from modelmax_async._version import VERSION

Timeout = float | httpx.Timeout | None
HTTPClient = httpx.AsyncClient


class Transport:
    """Sends calls, each in a slot. Used only from tasks that the client owns."""

    def __init__(
        self, settings: Settings, timeout: Timeout, http_client: HTTPClient | None
    ) -> None:
        self._settings = settings
        self.timeout = _read_timeout(timeout)
        self._lanes = Lanes(settings.max_in_flight, secure=settings.origin.startswith("https"))
        self._injected = http_client
        self._headers = httpx.Headers(
            {
                "authorization": f"Bearer {settings.key.reveal()}",
                "accept": "application/json",
                "accept-encoding": "identity",
                "user-agent": f"modelmax-async/{VERSION}",
            }
        )
        self._phases = {"timeout": self.timeout.as_dict()}
        finite = [t for t in self.timeout.as_dict().values() if t is not None]
        self.longest = max(finite, default=None)

    def __repr__(self) -> str:
        return f"<Transport to {self._settings.origin}: {self._lanes!r}>"

    async def send(self, call: Call) -> Reply:
        """Send a call that bills nothing, and return the whole answer.

        A submit goes out at most once, on a fresh connection: a stale one would leave open
        whether a job was created.

        Raises:
            TransportError: when no whole answer came; ``maybe_sent`` says what that means.
        """
        submit = call.body is not None
        return await self._send(call, Exchange(once=submit), fresh=submit, keep=False)

    async def send_once(self, call: Call, exchange: Exchange) -> Reply:
        """Send on a fresh HTTP/1.1 connection, at most once, keeping an answer of any size.

        ``exchange.before_send`` runs just before byte 0; what it raises is raised here, and
        then nothing was sent. A client of the caller's own may emit no trace events, so
        there it runs before the exchange begins.
        """
        return await self._send(call, exchange, fresh=True, keep=True)

    async def aclose(self) -> None:
        """Close what this transport opened; an injected client stays open."""
        await self._lanes.aclose()

    async def _send(self, call: Call, exchange: Exchange, *, fresh: bool, keep: bool) -> Reply:
        failure: TransportError
        try:
            async with self._client(fresh=fresh) as client:
                if self._injected is not None:
                    await exchange.begin_unseen()
                async with asyncio.timeout(self._ceiling(10 if keep else 1)):
                    return await self._exchange(client, call, exchange, keep=keep)
        except Exception as exc:
            if exc is exchange.refusal:
                raise
            failure = translate(exc, exchange, call.job)
        # Outside the handler: the error that users see drags no frames along, and so no key.
        raise failure

    async def _exchange(
        self, client: HTTPClient, call: Call, exchange: Exchange, *, keep: bool
    ) -> Reply:
        request = self._request(client, call, exchange)
        response = await client.send(request, stream=True, auth=None, follow_redirects=False)
        exchange.sent = exchange.answered = True
        try:
            body, kept_at = await read_body(response.stream, keep=keep)  # type: ignore[arg-type]  # an async client's
        finally:
            await response.aclose()
        return Reply(response.status_code, dict(response.headers.items()), body, kept_at)

    def _request(self, client: HTTPClient, call: Call, exchange: Exchange) -> httpx.Request:
        url = self._settings.base_url + call.path
        extensions = {**self._phases, "trace": exchange.trace}
        make = client.build_request if self._injected is not None else httpx.Request
        request = make(
            call.method, url, headers=self._headers, content=call.body, extensions=extensions
        )
        if call.body is not None:
            request.headers["content-type"] = "application/json"
        return request

    @asynccontextmanager
    async def _client(self, *, fresh: bool) -> AsyncIterator[HTTPClient]:
        async with self._lanes.slot():
            if self._injected is not None:
                yield self._injected
                return
            async with self._lanes.fresh() if fresh else self._lanes.lane() as client:
                yield client

    def _ceiling(self, times: int) -> float | None:
        """Seconds for a whole request: for servers that drip, and transports without limits."""
        return None if self.longest is None else self.longest * 1.25 * times + 0.5


def _read_timeout(timeout: Timeout) -> httpx.Timeout:
    if isinstance(timeout, httpx.Timeout):
        return timeout
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout > 0):
        raise ConfigurationError(
            f"timeout is seconds above 0, or httpx.Timeout; not {timeout!r}"
        )
    return httpx.Timeout(timeout)
