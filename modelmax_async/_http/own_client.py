"""The `httpx.AsyncClient` that the SDK makes for itself."""

from __future__ import annotations

from typing import Any

import httpx

from modelmax_async._reprs import always_shown

#: What users may pass as ``http_client``.
ClientOrTransport = httpx.AsyncClient | httpx.AsyncBaseTransport


@always_shown
class PlainClient(httpx.AsyncClient):
    """A client that sends each request exactly as it was built, once.

    It has no cookie jar (looking for cookies costs more than the rest of the client), no
    redirects (httpx parses a ``Location`` even where it does not follow it), no authentication
    flow, and it does not log URLs, whose query may be a signature.

    The ``transport`` is closed with the client.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        super().__init__(transport=transport, trust_env=False)

    def __repr__(self) -> str:
        return f"<PlainClient: {self._transport!r}>"

    def build_request(self, method: str, url: Any, **options: Any) -> httpx.Request:
        """Return the request as described: the client has nothing to add."""
        return httpx.Request(method, url, **options)

    async def send(self, request: httpx.Request, **_: Any) -> httpx.Response:
        """Send a request, and return the response before its body is read."""
        # Looked up for each request, as httpx does: libraries that mock HTTP patch this method.
        transport = self._transport_for_url(request.url)
        response = await transport.handle_async_request(request)
        response.request = request
        return response
