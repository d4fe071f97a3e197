"""What sends a request: a client of the caller's own, or a transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import httpx

HTTPClient = httpx.AsyncClient | httpx.AsyncBaseTransport


async def open_response(client: HTTPClient, request: httpx.Request) -> httpx.Response:
    """Send, and return the answer before its body has come: no redirects, no auth flow."""
    if isinstance(client, httpx.AsyncBaseTransport):
        return await client.handle_async_request(request)
    return await client.send(request, stream=True, auth=None, follow_redirects=False)


def builder_of(client: HTTPClient | None) -> Callable[..., httpx.Request]:
    """Return what builds requests: a caller's client has headers of its own to add."""
    return client.build_request if isinstance(client, httpx.AsyncClient) else httpx.Request


async def close(response: httpx.Response, seconds: float | None) -> None:
    """End an answer, within a bound if one is given: a timer for each poll would cost."""
    if seconds is None:
        await response.aclose()
        return
    async with asyncio.timeout(seconds):
        await response.aclose()


async def hang_up(response: httpx.Response) -> None:
    """End the connection before its pool gets it back; over HTTP/2 others are using it."""
    stream = response.extensions.get("network_stream")
    if stream is not None and response.http_version != "HTTP/2":
        with suppress(Exception):
            await stream.aclose()
