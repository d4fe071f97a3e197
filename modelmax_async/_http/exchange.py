"""How far one exchange came, and the error for one that broke.

Whether a byte was sent is read from the HTTP library's trace events, not guessed from the
class of an exception.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import httpx

from modelmax_async._api.messages import Reply, as_text
from modelmax_async._errors import RequestTimeoutError, TransportError
from modelmax_async._http.transports import TRACING, Kind, is_believed
from modelmax_async._models import Job
from modelmax_async._settings import ApiKey

BeforeSend = Callable[[], Awaitable[None]]


class Progress(enum.IntEnum):
    """How far an exchange came."""

    QUEUED = 0
    """It waits for a slot, or for its arming: nothing has it, and nothing was sent."""
    CONNECTING = 1
    """A transport has it. Trace events, or else the error, say whether byte 0 left."""
    SENT = 2
    """Its byte 0 was seen to leave."""
    ANSWERED = 3
    """The head of an answer came."""


@attrs.define(eq=False)
class Exchange:
    """How far one request came, as the trace events tell it.

    Attributes:
        once: whether it must not be sent twice: it costs something. A transport that would send
            it again is stopped before byte 0, where it traces that.
        before_send: what must be done before byte 0; ``None`` once it has been.
        last_look: raises where byte 0 would come too late; called just before it, where trace
            events announce it.
        kind: what carries it.
        progress: how far it came.
        traced: whether a trace event of any kind was seen.
        started: whether the event before byte 0 was seen.
        refusal: what ``before_send`` raised: then nothing was sent.
        reply: the answer, as soon as it is whole, whatever then becomes of its connection.
    """

    once: bool = False
    before_send: BeforeSend | None = None
    last_look: Callable[[], None] | None = None
    kind: Kind = Kind.UNKNOWN
    progress: Progress = Progress.QUEUED
    traced: bool = False
    started: bool = False
    refusal: BaseException | None = None
    reply: Reply | None = None

    @property
    def answered(self) -> bool:
        """Whether the head of an answer came."""
        return self.progress is Progress.ANSWERED

    @property
    def unarmed(self) -> bool:
        """Whether an answer came before ``before_send`` ran: no event announced byte 0."""
        return self.answered and self.before_send is not None

    async def begin(self, kind: Kind, *, by_trace: bool) -> None:
        """Hand the request to a transport.

        Args:
            kind: what the transport is.
            by_trace: whether it is known to emit trace events, so that what must precede
                byte 0 can wait for the one that announces it. Otherwise it is done now.
        """
        self.kind = kind
        if not by_trace:
            await self._arm()
        self.progress = Progress.CONNECTING

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        """Receive a trace event; what this raises before byte 0 keeps byte 0 back."""
        self.traced = True
        if name.endswith(".send_request_headers.started") and not _is_tunnel(info):
            await self._start()
        elif name.endswith(".receive_response_headers.complete") and self.started:
            self.progress = Progress.ANSWERED

    async def _start(self) -> None:
        if self.started and self.once:
            raise RuntimeError("the transport tried to send a request twice")
        await self._arm()
        self._look()
        self.started = True
        self.progress = max(self.progress, Progress.SENT)

    async def _arm(self) -> None:
        """Do what must be done before byte 0, once. If it raises, nothing is sent."""
        if self.before_send is None:
            return
        try:
            await self.before_send()
        except BaseException as exc:
            self.refusal = exc
            raise
        self.before_send = None

    def _look(self) -> None:
        # A transport that is not trusted may have sent it before: no refusal would be true.
        if self.last_look is None or self.kind not in TRACING:
            return
        try:
            self.last_look()
        except BaseException as exc:
            self.refusal = exc
            raise

    def maybe_sent(self, error: BaseException) -> bool:
        """Whether a byte of the request may have left, given how the exchange broke."""
        if self.progress is not Progress.CONNECTING:
            return self.progress is not Progress.QUEUED
        if self.traced and self.kind in TRACING:
            return False  # its events would have told
        return not is_believed(self.kind, error, watched=self.once)


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
