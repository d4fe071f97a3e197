"""How far one exchange came, and the error for one that broke.

Whether a byte was sent is read from the HTTP library's trace events, not guessed from the
class of an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import httpx

from modelmax_async._errors import RequestTimeoutError, TransportError
from modelmax_async._messages import as_text
from modelmax_async._models import Job
from modelmax_async._settings import ApiKey

BeforeSend = Callable[[], Awaitable[None]]

#: Raised before a connection exists, so that nothing can have been sent without one.
_NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


@attrs.define(eq=False)
class Exchange:
    """How far one request came, as the trace events tell it.

    With ``once``, a transport that would send the request a second time is stopped before
    byte 0 of it: a caller's own transport may retry, and does not know what a call costs.
    ``waiting`` holds until the request has a slot: so long, nothing of it can have left.
    """

    once: bool = False
    waiting: bool = False
    foreign: bool = False
    before_send: BeforeSend | None = None
    traced: bool = False
    sent: bool = False
    answered: bool = False
    refusal: BaseException | None = None

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        """Receive a trace event; what this raises before byte 0 keeps byte 0 back."""
        self.traced = True
        if name.endswith(".send_request_headers.started") and not _is_tunnel(info):
            await self.start()
        elif name.endswith(".receive_response_headers.complete") and self.sent:
            self.answered = True

    async def start(self) -> None:
        """Run what must be done before byte 0, once. If it raises, nothing is sent."""
        if self.sent and self.once:
            raise RuntimeError("the transport tried to send a request twice")
        if self.sent or self.before_send is None:
            self.sent = True
            return
        try:
            await self.before_send()
        except BaseException as exc:
            self.refusal = exc
            raise
        self.sent = True

    async def begin_unseen(self) -> None:
        """Do what must precede byte 0 now: this transport may emit no trace events.

        Whether a byte was then sent is still for the events, or else the error, to say.
        """
        self.foreign = True
        if self.before_send is not None:
            await self.start()
            self.sent = False
            self.before_send = None

    def maybe_sent(self, error: BaseException) -> bool:
        """Whether a byte of the request may have left, given how the exchange broke."""
        if self.waiting:
            return False
        if self.traced and not self.foreign:  # a foreign transport may trace one try of two
            return self.sent
        return self.sent or not isinstance(error, _NEVER_SENT)


def _is_tunnel(info: dict[str, Any]) -> bool:
    """Whether the event is about a proxy's CONNECT, which carries nothing of ours."""
    return getattr(info.get("request"), "method", b"") == b"CONNECT"


def translate(
    error: Exception, exchange: Exchange, job: Job | None, key: ApiKey
) -> TransportError:
    """Return our error for whatever broke the exchange: no httpx object, no frame, no key."""
    timed_out = isinstance(error, httpx.TimeoutException | TimeoutError)
    kind = RequestTimeoutError if timed_out else TransportError
    about = f" for job {job.request_id}" if job is not None else ""
    maybe = exchange.maybe_sent(error)
    sent = "may have been sent" if maybe else "was not sent"
    text = key.hide_in(_words_of(error))
    made = kind(
        f"the request{about} {sent}, and no whole answer came: {type(error).__name__} {text}",
        maybe_sent=maybe,
        job=job,
    )
    made.__cause__ = httpx.TransportError(f"{type(error).__name__}: {text}")
    return made


def _words_of(error: Exception) -> str:
    """Return what the error says. A foreign one may fail even at that."""
    try:
        return as_text(str(error), 300)
    except Exception:  # noqa: BLE001 - no wording may decide about a charge
        return "(it cannot be put into words)"
