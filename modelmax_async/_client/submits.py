"""Submits: sent once for each key, and retried only if no job can have been created.

With a key, this is true at each await if the process dies there (a caller's cancellation never
reaches it; only a closing client's does):

1. ``Reserve``: nothing was sent. The lease of the reservation runs out, and whoever submits
   with the key next sends it.
2. sending: a job may exist whose id was not received. The same: it is sent again. Nobody
   fetches the first job, so that it is never billed.
3. ``Bind``, after the 202: the same, unless it took effect; then the key has its job. If the
   ledger fails here, the job is not returned: fetched now, and submitted again by a later run,
   it would be paid for twice.
4. ``Remember``: the key has its job, which `pending` lists even without an entry of its own.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import nullcontext

from attrs import evolve

from modelmax_async._api.endpoints import build_submit, fingerprint, parse_submit
from modelmax_async._api.messages import Call
from modelmax_async._billing import leases
from modelmax_async._billing.leases import Leases, LeaseWatch
from modelmax_async._billing.verdicts import may_resubmit, refused_submit
from modelmax_async._client.images import load_image
from modelmax_async._client.pace import Pace
from modelmax_async._errors import (
    APIError,
    ClientStateError,
    InvalidResponseError,
    KeyConflictError,
    ModelMaxError,
    RateLimitError,
    SubmitUncertainError,
    TransportError,
)
from modelmax_async._errors.sentences import sentence
from modelmax_async._models import Job, Submission, VideoRequest
from modelmax_async._polling.visits import Parts
from modelmax_async._runtime import clock
from modelmax_async._validators import check_key, check_prompt
from modelmax_async.events import CallRetried, JobSubmitted, SubmitDiscarded
from modelmax_async.ledger import Bind, Release, Remember, Reserve, SubmitKey, Uncertain

#: Seconds at most between two looks at a key that another caller is submitting.
_LONGEST_LOOK = 1.0


class Submits:
    """The submits of one client, made in tasks that it owns."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._leases = Leases(parts.records.ledger, parts.tasks)
        self._watch = LeaseWatch(leases.LEASE)

    async def submit(self, request: VideoRequest, model: str, pace: Pace | None = None) -> Job:
        """Check a request, submit it, and record the job. Cancelling this leaves it running."""
        prompt = check_prompt(request.prompt)
        call = build_submit(model, prompt, await load_image(request.parameters))
        if request.key is None:
            return await self._parts.tasks.run(self._submit(call, model, pace))
        key = self._parts.records.submit_key(check_key(request.key))
        return await self._parts.tasks.run(self._submit_once(call, model, key, pace))

    async def _submit(self, call: Call, model: str, pace: Pace | None) -> Job:
        job = await self._send(call, model, pace, keyed=False)
        await self._submitted(job)
        return job

    async def _submitted(self, job: Job) -> None:
        self._parts.hooks.emit(JobSubmitted(job, self._parts.http.server.host))
        await self._parts.records.note(job, Remember(job))

    async def _submit_once(
        self, call: Call, model: str, key: SubmitKey, pace: Pace | None
    ) -> Job:
        """Return the job that the key belongs to; submit if there is none."""
        print_ = fingerprint(call)
        attempt, look = uuid.uuid4().hex, leases.LOOK
        while True:
            reserve = Reserve(print_, attempt, leases.LEASE, self._watch.gone(key))
            done = await self._parts.records.ask_key(key, reserve)
            if done.granted:
                break
            if (job := _job_of(done.entry, print_, key.key)) is not None:
                await self._parts.records.note(job, Remember(job))
                return job
            self._watch.look(key, done.entry, asyncio.get_running_loop().time())
            pause, look = look, min(2 * look, _LONGEST_LOOK)
            await self._parts.tasks.sleep(pause)
        self._watch.forget(key)
        self._leases.hold(key, attempt)
        try:
            job = await self._send_reserved(call, model, key, attempt, pace)
            return await self._bind(key, Bind(print_, attempt, evolve(job, key=key.key)))
        finally:
            self._leases.let_go(key, attempt)

    async def _send_reserved(
        self, call: Call, model: str, key: SubmitKey, attempt: str, pace: Pace | None
    ) -> Job:
        """Send, and record at once if it created no job or its outcome is unknown."""
        try:
            return await self._send(call, model, pace, keyed=True)
        except SubmitUncertainError as exc:
            uncertain = Uncertain(attempt, "sent", str(exc))
            await self._parts.records.note_key(key, uncertain)
            raise
        except (APIError, TransportError, ClientStateError):
            await self._parts.records.note_key(key, Release(attempt))
            raise

    async def _bind(self, key: SubmitKey, bind: Bind) -> Job:
        """Record the job of the key; the first one recorded wins."""
        done = await self._parts.records.ask_key(key, bind)
        job = _job_of(done.entry, bind.fingerprint, key.key)
        assert job is not None  # noqa: S101 - a submission that refuses a job has another
        if done.granted:
            await self._submitted(job)
        else:
            self._parts.hooks.emit(SubmitDiscarded(job, bind.job))
        return job

    async def _send(self, call: Call, model: str, pace: Pace | None, *, keyed: bool) -> Job:
        """Send until the server has accepted or refused it."""
        attempt = 0
        while True:
            try:
                async with pace.turn() if pace else nullcontext():
                    reply = await self._parts.http.submit(call)
                    return parse_submit(reply, model, now=clock.wall())
            except (APIError, TransportError) as exc:
                if pace and isinstance(exc, RateLimitError) and (keyed or may_resubmit(exc)):
                    self._retried(model, exc, pace.rest())
                    continue
                attempt += 1
                delay = self._delay(exc, attempt, keyed=keyed)
                self._retried(model, exc, delay)
                await self._parts.tasks.sleep(delay)
            except InvalidResponseError as exc:
                raise _submit_uncertain(exc, keyed=keyed) from exc
            except asyncio.CancelledError:
                closed = "the client was closed before the response arrived"
                raise _submit_uncertain(closed, keyed=keyed) from None

    def _retried(self, model: str, error: ModelMaxError, delay: float) -> None:
        self._parts.hooks.emit(
            CallRetried(call="submit", cause=str(error), delay=delay, model=model)
        )

    def _delay(self, error: APIError | TransportError, attempt: int, *, keyed: bool) -> float:
        """Return the seconds until it is sent again; raise what must not be sent again."""
        if not may_resubmit(error):
            if isinstance(error, APIError) and refused_submit(error):
                raise error
            raise _submit_uncertain(error, keyed=keyed) from error
        if attempt >= self._parts.retry.policy.attempts:
            raise error
        return self._parts.retry.delay(attempt - 1, error)


def _job_of(entry: Submission, print_: str, key: str) -> Job | None:
    """Return the job of a key, if it has one already.

    Raises:
        KeyConflictError: if the key belongs to another request.
    """
    if entry.fingerprint == print_:
        return entry.job
    theirs = "" if entry.job is None else f" (job {entry.job.request_id})"
    raise KeyConflictError(
        f"the key {key!r} belongs to another request{theirs}, so this one has no job. Use "
        "another key for it; forget(job) frees the key of a job that is not billed",
        key=key,
        job=entry.job,
    )


def _submit_uncertain(error: ModelMaxError | str, *, keyed: bool) -> SubmitUncertainError:
    advice = (
        "submit again with the same key"
        if keyed
        else "submit again only if a second job does no harm"
    )
    return SubmitUncertainError(
        "the submit may have created a job whose id was not received: "
        f"{sentence(str(error))} Such a job is never billed, because its result cannot be "
        f"fetched without the id; {advice}"
    )
