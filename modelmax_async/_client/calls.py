"""Single calls, made when the user asks for one: submit, status, result.

A call that failed at no cost is made `RetryPolicy.attempts` times at most.
"""

from __future__ import annotations

import asyncio

import attrs

from modelmax_async._api.endpoints import build_status, parse_status, parse_submit
from modelmax_async._api.messages import Call
from modelmax_async._billing.decisions import Decision, decide
from modelmax_async._billing.outcomes import Held
from modelmax_async._billing.verdicts import NotReady, may_resubmit, refused_submit
from modelmax_async._errors import (
    APIError,
    InvalidResponseError,
    ModelMaxError,
    NotReadyError,
    ResultUncertainError,
    SubmitUncertainError,
    TransportError,
)
from modelmax_async._models import Job, Result, StatusReport
from modelmax_async._polling.visits import Parts
from modelmax_async._runtime import clock
from modelmax_async._runtime.retry import is_final
from modelmax_async.events import JobSubmitted, StatusPolled
from modelmax_async.ledger.moves import Remember

#: Seconds between two looks at a job that another client is fetching.
_HELD = 0.25


@attrs.frozen
class Calls:
    """The single calls of one client.

    Submits and status calls run in tasks that the client owns. `result` runs in the caller's
    task: a billed call under way outlives it, but the intention to make one does not.
    """

    _parts: Parts

    async def submit(self, call: Call, model: str) -> Job:
        """Submit, and record the job. It is retried only if no job can have been created."""
        attempt = 0
        while True:
            try:
                reply = await self._parts.http.submit(call)
                job = parse_submit(reply, model, now=clock.wall())
                break
            except (APIError, TransportError) as exc:
                attempt += 1
                await self._retry_submit(exc, attempt)
            except InvalidResponseError as exc:
                raise _submit_uncertain(exc) from exc
            except asyncio.CancelledError:
                closed = "the client was closed before the response arrived."
                raise _submit_uncertain(closed) from None
        self._parts.hooks.emit(JobSubmitted(job))
        await self._parts.records.note(job, Remember(job))
        return job

    async def status(self, job: Job) -> StatusReport:
        """Ask for the status. It is free, so that a failure is retried."""
        attempt = 0
        prepared = self._parts.http.prepare(build_status(job))
        while True:
            try:
                report = await self._parts.http.poll(
                    prepared, lambda reply: parse_status(reply, job, now=clock.wall())
                )
            except (TransportError, APIError, InvalidResponseError) as exc:
                attempt += 1
                lasting = isinstance(exc, APIError) and is_final(exc.status_code, float("inf"))
                if lasting or attempt >= self._parts.retry.policy.attempts:
                    raise
                await self._back_off(attempt, exc)
            else:
                self._parts.hooks.emit(StatusPolled(job, report.status))
                return report

    async def result(self, job: Job, *, accept: bool) -> Result:
        """Make the billed call once, or once more with the user's consent."""
        here = True
        decision: Decision | None = None
        try:
            if accept:
                entry = await self._parts.tasks.run(self._parts.settler.look(job))
                decision = None if entry is None else decide(entry, lambda: here)
            while True:
                try:
                    return await self._settled(job, decision)
                except ResultUncertainError as exc:
                    undecided = decision is None and not accept
                    if not (self._parts.refetch and undecided) or exc.attempt is None:
                        raise
                    decision = Decision(exc.attempt, None, lambda: here)  # once
        finally:
            here = False

    async def _settled(self, job: Job, decision: Decision | None) -> Result:
        """Settle the job: retry what cost nothing, and wait for other clients that hold it."""
        attempt = 0
        while True:
            settled = await self._parts.settler.settle(job, decision=decision)
            match settled:
                case Result():
                    return settled
                case Held():
                    await self._parts.tasks.sleep(_HELD)
                case NotReady(status):
                    raise NotReadyError(
                        f"it is {status}; nothing was billed. wait_for(job) fetches it when it "
                        "is COMPLETED",
                        job=job,
                        last_status=status,
                    )
                case unbilled:
                    attempt += 1
                    if attempt >= self._parts.retry.policy.attempts:
                        raise unbilled.error
                    await self._back_off(attempt, unbilled.error)

    async def _retry_submit(self, error: APIError | TransportError, attempt: int) -> None:
        if not may_resubmit(error):
            if isinstance(error, APIError) and refused_submit(error):
                raise error
            raise _submit_uncertain(error) from error
        if attempt >= self._parts.retry.policy.attempts:
            raise error
        await self._back_off(attempt, error)

    async def _back_off(self, attempt: int, error: ModelMaxError) -> None:
        await self._parts.tasks.sleep(self._parts.retry.delay(attempt - 1, error))


def _submit_uncertain(error: ModelMaxError | str) -> SubmitUncertainError:
    return SubmitUncertainError(
        f"the submit may have created a job whose id was not received: {error} "
        "Such a job is never billed, because its result cannot be fetched without the id; "
        "submit again only if a second job does no harm"
    )
