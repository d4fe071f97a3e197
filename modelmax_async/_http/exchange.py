"""One request and its response: how far they got, and the error for an exchange that broke.

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
from modelmax_async._api_key import ApiKey
from modelmax_async._errors import RequestTimeoutError, TransportError
from modelmax_async._http.transports import TRACING, Kind, is_believed
from modelmax_async._models import Job
from modelmax_async.events import CallEnded

BeforeSend = Callable[[], Awaitable[None]]


class Progress(enum.IntEnum):
    """How far an exchange got."""

    QUEUED = 0
    """It waits for a slot, or to be armed. No transport has it, and nothing was sent."""
    CONNECTING = 1
    """A transport has it. Trace events, or else the error, tell whether byte 0 was sent."""
    SENT = 2
    ANSWERED = 3
    """The head of a response arrived."""


class Traced(enum.IntEnum):
    """What the trace events of an exchange have shown."""

    NOTHING = 0
    ACTIVITY = 1
    """Events were seen, but not the one that announces byte 0."""
    START = 2


@attrs.define(eq=False)
class Exchange:
    """How far one request got, as its trace events tell.

    Attributes:
        once: whether it must not be sent twice, because it costs something. A transport that
            traces a second start is stopped before byte 0.
        before_send: what must be done before byte 0; ``None`` once it has been done.
        last_look: raises if byte 0 would be sent too late; called just before byte 0, where
            trace events announce it.
        refusal: what ``before_send`` or ``last_look`` raised: then nothing was sent.
        reply: the response, as soon as it is complete, whatever happens to its connection then.
        kept_at: the file that gets a response which is too large for memory.
        seconds: tells how long it takes, if a hook or the log wants to know of its end.
        status: the HTTP status, once the head of the response arrived.
        broken: the name of the exception that broke it.
        attempt: the id of the billed call.
        armed: whether hooks were told that its first byte is sent next.
        ended: the record of its end.
    """

    once: bool = False
    before_send: BeforeSend | None = None
    last_look: Callable[[], None] | None = None
    attempt: str = ""
    armed: bool = attrs.field(default=False, init=False)
    kind: Kind = attrs.field(default=Kind.UNKNOWN, init=False)
    progress: Progress = attrs.field(default=Progress.QUEUED, init=False)
    traced: Traced = attrs.field(default=Traced.NOTHING, init=False)
    refusal: BaseException | None = attrs.field(default=None, init=False)
    reply: Reply | None = attrs.field(default=None, init=False)
    kept_at: str | None = attrs.field(default=None, init=False)
    seconds: Callable[[], float] | None = attrs.field(default=None, init=False)
    status: int | None = attrs.field(default=None, init=False)
    broken: str | None = attrs.field(default=None, init=False)
    ended: CallEnded | None = attrs.field(default=None, init=False)

    @property
    def answered(self) -> bool:
        """Whether the head of a response arrived."""
        return self.progress is Progress.ANSWERED

    @property
    def unarmed(self) -> bool:
        """Whether it was answered before ``before_send`` ran: no event announced byte 0."""
        return self.answered and self.before_send is not None

    @property
    def received(self) -> str:
        """Where the part of a response that broke off is, as the end of an error's text."""
        return f"; the part received is in {self.kept_at}" if self.kept_at else ""

    async def begin(self, kind: Kind, *, by_trace: bool) -> None:
        """Hand the request to a transport.

        If it is known to emit trace events, what must precede byte 0 waits for the event that
        announces byte 0. Otherwise it is done now.
        """
        self.kind = kind
        if not by_trace:
            await self._arm()
        self.progress = Progress.CONNECTING

    async def trace(self, name: str, info: dict[str, Any]) -> None:
        """Receive a trace event. An exception raised here before byte 0 holds byte 0 back."""
        self.traced = max(self.traced, Traced.ACTIVITY)
        if name.endswith(".send_request_headers.started") and not _is_tunnel(info):
            await self._start()
        elif (
            name.endswith(".receive_response_headers.complete")
            and self.progress >= Progress.SENT
        ):
            self.progress = Progress.ANSWERED

    def answer(self, reply: Reply | None = None) -> None:
        """Note that the head of the response arrived, or all of it."""
        self.progress, self.reply = Progress.ANSWERED, reply

    def maybe_sent(self, error: BaseException) -> bool:
        """Whether a byte of the request may have been sent, given how the exchange broke."""
        if self.progress is not Progress.CONNECTING:
            return self.progress is not Progress.QUEUED
        if self.traced and self.kind in TRACING:
            return False  # an event would have announced byte 0
        return not is_believed(self.kind, error, watched=self.once)

    async def _start(self) -> None:
        if self.traced is Traced.START and self.once:
            raise RuntimeError("the transport tried to send a request twice")
        await self._arm()
        # A transport that is not trusted may have sent it before: a refusal might be untrue.
        if self.last_look is not None and self.kind in TRACING:
            try:
                self.last_look()
            except BaseException as exc:
                self.refusal = exc
                raise
        self.traced = Traced.START
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


def _is_tunnel(info: dict[str, Any]) -> bool:
    """Whether the event is about a proxy's CONNECT, which carries nothing of the request."""
    return getattr(info.get("request"), "method", b"") == b"CONNECT"


def translate(
    error: Exception, exchange: Exchange, job: Job | None, key: ApiKey, *, host: str
) -> TransportError:
    """Return the error for a broken exchange: it holds no httpx object, no frame and no key."""
    timed_out = isinstance(error, httpx.TimeoutException | TimeoutError)
    kind = RequestTimeoutError if timed_out else TransportError
    about = f" for job {job.request_id}" if job is not None else ""
    maybe_sent = exchange.maybe_sent(error)
    sent = "may have been sent" if maybe_sent else "was not sent"
    shown = _alone(error)
    text = ": ".join(filter(None, (type(shown).__name__, _text_of(shown, key))))
    made = kind(
        f"the request to {host}{about} {sent}, and no complete response was received: {text}"
        f"{exchange.received}",
        maybe_sent=maybe_sent,
        host=host,
        job=job,
    )
    made.__cause__ = httpx.TransportError(text)
    return made


def _alone(error: Exception) -> Exception:
    """Return the exception in a group of one, such as a task group of anyio raises."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _text_of(error: Exception, key: ApiKey) -> str:
    """Return the text of an exception, without the key. A foreign one may fail at that."""
    try:
        return as_text(key.hide_in(str(error)), 300)
    except Exception:  # noqa: BLE001 - no text may decide about a charge
        return "(its text is not available)"
