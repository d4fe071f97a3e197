"""The emulator on a socket: uvicorn's HTTP/1.1 protocol in the caller's event loop.

`uvicorn.Server` is left out on purpose: it installs signal handlers, logs, and takes
tenths of a second to stop.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from modelmax_async.emulator._connection import DROP

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

_log = logging.getLogger("modelmax_async.emulator._server")
_log.setLevel(logging.ERROR)  # logs bugs of the server, not malformed requests

_KEEP_ALIVE = 75
"""Seconds for which an idle connection stays open."""
_GRACE = 2.0
"""Seconds for which running requests may take to end with the server."""


class _Protocol(H11Protocol):
    """Uvicorn's protocol without access logs, whose connection can be dropped."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.logger = _log
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self.app_state = {**self.app_state, DROP: self._drop}

    def _drop(self, *, flush: bool) -> None:
        # abort() discards buffered bytes, close() sends them
        if flush:
            self.transport.close()
        else:
            self.transport.abort()


@asynccontextmanager
async def serve(
    app: Callable[..., Awaitable[None]],
    *,
    host: str,
    port: int,
    certfile: str | None,
    keyfile: str | None,
) -> AsyncIterator[str]:
    """Serve an ASGI application until the block ends; the arguments are `Emulator.serve`'s."""
    config = Config(
        app,
        interface="asgi3",
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )
    await asyncio.to_thread(config.load)  # it reads the certificate
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Protocol(config, state, {}, loop), host, port, ssl=config.ssl, backlog=2048
    )
    scheme = "https" if config.ssl else "http"
    shown = f"[{host}]" if ":" in host else host
    try:
        yield f"{scheme}://{shown}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in list(state.connections):  # a request ends as if its client left
            connection.transport.abort()
        if state.tasks:
            await asyncio.wait(state.tasks, timeout=_GRACE)
        await asyncio.sleep(0)  # lets the sockets close
