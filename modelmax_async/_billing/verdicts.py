"""What a response, or its absence, proves about the money: pure decisions, no I/O.

Only a call that provably cost nothing may ever be made again.
"""

from __future__ import annotations

from http import HTTPStatus

import attrs

from modelmax_async._api.endpoints import result_status
from modelmax_async._api.messages import Reply, as_text, decoded, parse_error
from modelmax_async._errors import APIError, TransportError
from modelmax_async._models import Job, Phase, Status

#: With the documented error body, these prove that nothing was billed.
UNBILLED = frozenset({400, 401, 402, 403, 404, 429, 502, 503})
#: Of those, the ones that may be gone at the next call.
RETRIED = frozenset({429, 502, 503})


@attrs.frozen
class Paid:
    """The response is the paid result: store it."""

    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Unbilled:
    """Nothing was billed: release the claim, then retry or raise ``error``."""

    error: APIError | TransportError
    retry: bool


@attrs.frozen
class NotReady:
    """Nothing was billed: the result endpoint says that the job is still running."""

    status: str


@attrs.frozen
class Failed:
    """Nothing was billed: the job FAILED."""

    error: str


@attrs.frozen
class Uncertain:
    """It may have been billed, and there is no usable body."""

    phase: Phase
    cause: str


Verdict = Paid | Unbilled | NotReady | Failed | Uncertain


def judge_reply(reply: Reply, job: Job, *, now: float) -> Verdict:
    """Return what a complete response to the billed call proves. It never raises."""
    if reply.kept_at is not None:
        return Uncertain(
            "answered",
            f"the response is too large for memory; the part received is in {reply.kept_at}",
        )
    if 200 <= reply.status < 300:  # noqa: PLR2004 - any 2xx
        return _judge_success(reply, job)
    if reply.status in UNBILLED:
        error = parse_error(reply, now=now, job=job)
        if error.error_type is not None:
            return Unbilled(error, retry=reply.status in RETRIED)
    about = f"HTTP {reply.status}{reply.origin} without proof of no charge"
    if reply.unread:
        return Uncertain("answered", f"{about}: the response {reply.unread}")
    excerpt = as_text(reply.body[:300].decode("utf-8", "replace"))
    return Uncertain("answered", f"{about}: {excerpt or '(an empty body)'}")


def _judge_success(reply: Reply, job: Job) -> Verdict:
    word, error = result_status(reply, job)
    if reply.status == HTTPStatus.OK:  # the one documented success
        if word in {Status.IN_QUEUE, Status.IN_PROGRESS}:
            return NotReady(str(word))
        if word == Status.FAILED:
            return Failed(error)
    try:
        body = decoded(reply)
    except ValueError:
        body = reply.body
    return Paid(body) if body else Uncertain("answered", f"HTTP {reply.status}, an empty body")


def judge_break(error: TransportError, *, answered: bool) -> Unbilled | Uncertain:
    """Return what a broken exchange proves: nothing, once a byte may have been sent."""
    if not error.maybe_sent:
        return Unbilled(error, retry=True)
    return Uncertain("answered" if answered else "sent", as_text(str(error)))


def may_resubmit(error: APIError | TransportError) -> bool:
    """Whether a submit provably created no job, so that it can be sent again (API §1)."""
    if isinstance(error, TransportError):
        return not error.maybe_sent
    return error.status_code in RETRIED and error.error_type is not None


def refused_submit(error: APIError) -> bool:
    """Whether the response to a submit says that no job was created."""
    refused = HTTPStatus.BAD_REQUEST <= error.status_code <= HTTPStatus.NOT_FOUND
    return refused or may_resubmit(error)


def is_unknown(error: APIError | TransportError) -> bool:
    """Whether the server says that it does not know the job (API §2, §3)."""
    answers = {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}
    return isinstance(error, APIError) and error.status_code in answers
