"""Single calls, made when the user asks for one: status and result.

A call that failed at no cost is made `RetryPolicy.attempts` times at most.
"""

from __future__ import annotations

from functools import partial

import attrs

from modelmax_async._api.endpoints import build_status, parse_status
from modelmax_async._billing.decisions import Decision, decide
from modelmax_async._billing.leases import LOOK
from modelmax_async._billing.outcomes import Held
from modelmax_async._billing.verdicts import NotReady
from modelmax_async._errors import (
    APIError,
    InvalidResponseError,
    JobFailedError,
    ModelMaxError,
    NotReadyError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._models import Job, Result, StatusReport
from modelmax_async._polling.visits import Parts
from modelmax_async._polling.waits import Wait
from modelmax_async._runtime import clock
from modelmax_async._runtime.retry import is_final
from modelmax_async.events import CallKind, CallRetried, JobEnded, StatusPolled


@attrs.frozen
class Calls:
    """The single calls of one client.

    Status calls run in tasks that the client owns. `result` runs in the caller's
    task: a billed call under way outlives it, but the intention to make one does not.
    """

    _parts: Parts

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
                await self._back_off("status", job, attempt, exc)
            else:
                self._parts.hooks.emit(StatusPolled(job, report.status))
                return report

    async def result(self, job: Job, *, accept: bool) -> Result:
        """Make the billed call once, or once more with the user's consent."""
        seconds = clock.stopwatch()
        ended = partial(JobEnded, job=job, polls=0)
        try:
            with Wait(self._parts.hooks, job):
                result = await self._result(job, accept=accept)
        except JobFailedError as exc:
            failed = ended(status="FAILED", seconds=seconds(), fetched=False, error=exc.error)
            self._parts.hooks.emit(failed)
            raise
        self._parts.hooks.emit(ended(status="COMPLETED", seconds=seconds(), fetched=True))
        return result

    async def _result(self, job: Job, *, accept: bool) -> Result:
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
                    await self._parts.tasks.sleep(LOOK)
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
                    await self._back_off("result", job, attempt, unbilled.error)

    async def _back_off(
        self, call: CallKind, job: Job, attempt: int, error: ModelMaxError
    ) -> None:
        delay = self._parts.retry.delay(attempt - 1, error)
        self._parts.hooks.emit(
            CallRetried(call=call, cause=str(error), delay=delay, model=job.model, job=job)
        )
        await self._parts.tasks.sleep(delay)
