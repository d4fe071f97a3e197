"""The record of an HTTP exchange that ended, for hooks and the log."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

from modelmax_async._api.messages import Call
from modelmax_async._http.exchange import Exchange
from modelmax_async._models import StatusReport
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._settings import DEFAULT_PORTS
from modelmax_async.events import CallEnded, CallKind


@attrs.frozen
class Server:
    """The host and the port of a URL that was checked before."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Server:
        """Return the server of a URL."""
        parts = urlsplit(url)
        return cls(parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 0))


def report(
    kind: CallKind,
    call: Call,
    server: Server,
    exchange: Exchange,
    hooks: Hooks,
    *,
    outcome: object = None,
) -> None:
    """Tell of an exchange that has ended; ``outcome`` is what was made of its response.

    A billed one is told of by the settler, once its outcome is recorded.
    """
    refused = exchange.refusal is not None and not exchange.armed
    if exchange.seconds is None or refused:  # refused before byte 0: no exchange took place
        return
    exchange.ended = CallEnded(
        call=kind,
        method=call.method,
        host=server.host,
        port=server.port,
        seconds=exchange.seconds(),
        job=call.job,
        status_code=exchange.status,
        error=exchange.broken,
        status=str(outcome.status) if isinstance(outcome, StatusReport) else None,
        attempt=exchange.attempt,
    )
    if kind != "result":
        hooks.emit(exchange.ended)
