"""What an answer, or its absence, proves about the money: pure decisions, no I/O.

Only what is proven to have cost nothing may ever be tried again.
"""

from __future__ import annotations

import attrs

from modelmax_async._api.endpoints import result_status
from modelmax_async._api.messages import Reply, as_text, decoded, parse_error
from modelmax_async._errors import APIError, TransportError
from modelmax_async._models import Job, Phase, Status

#: With the documented error body, these prove that nothing was billed.
UNBILLED = frozenset({400, 401, 402, 403, 404, 429, 502, 503})
#: Of those, the ones that a later call may find mended.
RETRIED = frozenset({429, 502, 503})


@attrs.frozen
class Keep:
    """The answer is the paid result: store it."""

    body: bytes = attrs.field(repr=False)


@attrs.frozen
class Unbilled:
    """Nothing was billed: release the claim, then retry or raise ``error``."""

    error: APIError | TransportError
    retry: bool


@attrs.frozen
class NotYet:
    """Nothing was billed: the result endpoint says that the job still runs."""

    status: str


@attrs.frozen
class HasFailed:
    """Nothing was billed: the job FAILED."""

    error: str


@attrs.frozen
class Unknown:
    """It may have been billed, and there is no usable body."""

    phase: Phase
    cause: str


Verdict = Keep | Unbilled | NotYet | HasFailed | Unknown


def judge_reply(reply: Reply, job: Job, *, now: float) -> Verdict:
    """Return what a whole answer of the billed call proves. It never raises."""
    if reply.kept_at is not None:
        return Unknown(
            "answered",
            f"the answer is too large for memory: what came of it is {reply.kept_at}",
        )
    if 200 <= reply.status < 300:  # noqa: PLR2004 - 2xx
        return _judge_success(reply, job)
    if reply.status in UNBILLED:
        error = parse_error(reply, now=now, job=job)
        if error.error_type is not None:
            return Unbilled(error, retry=reply.status in RETRIED)
    excerpt = as_text(reply.body[:300].decode("utf-8", "replace"))
    return Unknown("answered", f"HTTP {reply.status} without proof of no charge: {excerpt}")


def _judge_success(reply: Reply, job: Job) -> Verdict:
    word, error = result_status(reply, job)
    if reply.status == 200:  # noqa: PLR2004 - the one documented success
        if word in {Status.IN_QUEUE, Status.IN_PROGRESS}:
            return NotYet(str(word))
        if word == Status.FAILED:
            return HasFailed(error)
    try:
        body = decoded(reply)
    except ValueError:
        body = reply.body
    return Keep(body) if body else Unknown("answered", f"HTTP {reply.status}, an empty body")


def judge_break(error: TransportError, *, answered: bool) -> Unbilled | Unknown:
    """Return what an exchange that broke proves: nothing, once a byte may have left."""
    if not error.maybe_sent:
        return Unbilled(error, retry=True)
    return Unknown("answered" if answered else "sent", as_text(str(error)))


def may_resubmit(error: APIError | TransportError) -> bool:
    """Whether a submit provably created no job, so that it can be sent again (API §1)."""
    if isinstance(error, TransportError):
        return not error.maybe_sent
    return error.status_code in RETRIED and error.error_type is not None


def refused_submit(error: APIError) -> bool:
    """Whether the answer to a submit says that no job was created."""
    return 400 <= error.status_code <= 404 or may_resubmit(error)  # noqa: PLR2004 - documented range
