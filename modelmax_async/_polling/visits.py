"""One visit of a job: as far as it gets now.

Ask the ledger first, then the server for the status, and once that is COMPLETED have the
settler fetch the result. The visit ends in the result, or in the time of the next visit.
"""

from __future__ import annotations

import asyncio

import attrs

from modelmax_async._api.endpoints import build_status, parse_status
from modelmax_async._billing.decisions import Decision
from modelmax_async._billing.outcomes import Held, read_entry
from modelmax_async._billing.records import Records
from modelmax_async._billing.settler import Settler
from modelmax_async._billing.verdicts import NotReady
from modelmax_async._errors import (
    APIError,
    InconsistentStateError,
    InvalidResponseError,
    JobFailedError,
    ModelMaxError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._http import HTTPClient
from modelmax_async._models import Result, Status, StatusReport
from modelmax_async._polling.backoff import PollBackoff
from modelmax_async._polling.job import Again, Done, PolledJob, Recall, Stage, Visit, Watched
from modelmax_async._polling.learning import Learning
from modelmax_async._polling.observation import Observation
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.events import StatusPolled
from modelmax_async.ledger import Fail, Remember
from modelmax_async.ledger.attempts import is_held

#: COMPLETED on status but not on result for longer than this many seconds is an error.
INCONSISTENT_AFTER = 60.0


@attrs.frozen(kw_only=True)
class Parts:
    """The parts of a client that visits and single calls work with."""

    http: HTTPClient
    settler: Settler
    records: Records
    tasks: Tasks
    hooks: Hooks
    retry: Backoff
    refetch: bool


@attrs.frozen
class Visits:
    """What a visit does, from the ledger to the fetched result."""

    _parts: Parts
    _backoff: PollBackoff
    _learning: Learning

    async def visit(self, job: PolledJob) -> Visit:
        """Take the job one visit further, or raise the error that ends it."""
        if job.bills and job.recall is Recall.UNASKED:
            recalled = await self._recall_for_some(job)
            if recalled is not None:
                return recalled
        if (wait := self._wait_before(job)) is not None:
            return Again(wait)
        if job.stage is Stage.POLL:
            polled = await self._poll(job)
            if polled is not None:
                return polled
        if not job.bills:
            return Watched()
        if job.recall is Recall.UNASKED:
            return Again(0.0)  # a subscriber that wants the result joined meanwhile
        return await self._fetch(job)

    def _wait_before(self, job: PolledJob) -> float | None:
        """Return the seconds until calls are due; ``None``: they are due."""
        rest = job.rest(asyncio.get_running_loop().time())
        if rest > 0:
            return rest
        return self._backoff.before_first(job) if job.stage is Stage.POLL else None

    async def _recall_for_some(self, job: PolledJob) -> Done | None:
        """Recall; an error that the ledger reports concerns only those who want the result."""
        try:
            return await self._recall(job)
        except ModelMaxError as exc:
            if isinstance(exc, JobFailedError) or not job.end_billing(exc):
                raise
            job.recall = Recall.UNASKED  # for those who want it later
            return None

    async def _recall(self, job: PolledJob) -> Done | None:
        """Ask the ledger; ``None``: the visit goes on. A stored result needs no call at all."""
        if (kept := self._parts.settler.unsaved(job.job)) is not None:
            return Done(kept)
        entry = await self._parts.records.look(job.job)
        job.recall = Recall.ASKED
        if entry is None:
            return None
        if entry.acknowledged and entry.job.model == job.job.model:
            job.recall = Recall.ACKNOWLEDGED
        try:
            stored = read_entry(entry, job.job)
        except ResultUncertainError as exc:
            self._decide(job, exc)
            return None
        if stored is not None:
            return Done(stored)
        if job.last is None and job.job.submitted_at is None:
            now = asyncio.get_running_loop().time()
            job.observation = Observation.start(entry.job, now, clock.wall())
        return None

    def _decide(self, job: PolledJob, error: ResultUncertainError) -> None:
        """Decide to pay again, if the client was told to; once, or it might pay for ever."""
        if job.decision is not None or not self._parts.refetch or error.attempt is None:
            raise error
        job.decision = Decision(error.attempt, None, lambda: job.bills)

    async def _poll(self, job: PolledJob) -> Again | Done | None:
        """Ask for the status; ``None``: it is COMPLETED, and the visit goes on."""
        try:
            if job.prepared is None:
                job.prepared = self._parts.http.prepare(build_status(job.job))
            report = await self._parts.http.poll(
                job.prepared, lambda reply: parse_status(reply, job.job, now=clock.wall())
            )
        except (TransportError, APIError, InvalidResponseError) as exc:
            return Again(self._backoff.failed(job, exc))
        now = asyncio.get_running_loop().time()
        self._backoff.succeeded(job)
        if self._parts.hooks.wants():
            self._parts.hooks.emit(StatusPolled(job.job, report.status))
        job.progress.polled(report, now)
        job.report(report, now)
        if report.terminal:
            self._learning.ended(job.job.model, job.observation, now)
        else:
            self._learning.seen(job.job.model, job.observation, now, report.status)
        if report.status == Status.FAILED:
            return await self._failed(job, report)
        await self._acknowledge(job)
        if report.status != Status.COMPLETED:
            job.completed_since = None
            return Again(self._backoff.interval(job))
        job.stage = Stage.FETCH
        if job.completed_since is None:
            job.completed_since = now
        return None

    async def _acknowledge(self, job: PolledJob) -> None:
        """Record that the server knows the job, if a caller wants its result."""
        if job.recall is Recall.ASKED:
            await self._parts.records.note(job.job, Remember(job.job))
            job.recall = Recall.ACKNOWLEDGED

    async def _failed(self, job: PolledJob, report: StatusReport) -> Again | Done:
        """Record that the job FAILED, and see what the ledger says of its billed call.

        Raises:
            JobFailedError: it was never billed.
            ResultUncertainError, InvalidResponseError: it may have been billed.
        """
        if job.bills and job.recall is Recall.UNASKED:  # joined while others only watched
            recalled = await self._recall(job)
            if isinstance(recalled, Done):
                return recalled
        await self._acknowledge(job)
        if job.recall is not Recall.UNASKED:
            error, gone = report.error or "", self._parts.records.watch.gone(job.key)
            done = await self._parts.records.note(job.job, Fail(error, takeover=gone))
            if done is not None and is_held(done.entry):
                self._parts.records.held(job.job, done.entry)
                return Again(self._backoff.held(job))
            also = f"now the server says FAILED: {error}"
            stored = None if done is None else read_entry(done.entry, job.job, also=also)
            if stored is not None:
                return Done(stored)
        raise JobFailedError(report.error or "(no reason given)", job=job.job)

    async def _fetch(self, job: PolledJob) -> Again | Done:
        """Have the settler fetch the result."""
        try:
            settled = await self._parts.settler.settle(
                job.job, decision=job.decision, acknowledged=True
            )
        except ResultUncertainError as exc:
            self._decide(job, exc)
            return Again(self._parts.retry.delay(0))
        match settled:
            case Result():
                return Done(settled)
            case Held():
                return Again(self._backoff.held(job))
            case NotReady(status):
                return self._not_ready(job, status)
            case unbilled:
                return Again(self._backoff.failed(job, unbilled.error))

    def _not_ready(self, job: PolledJob, status: str) -> Again:
        since = job.completed_since or job.started
        if asyncio.get_running_loop().time() - since > INCONSISTENT_AFTER:
            raise InconsistentStateError(
                f"the status is COMPLETED, but the result endpoint has said {status} for "
                f"{INCONSISTENT_AFTER:.0f} seconds; nothing was billed. Wait again later",
                job=job.job,
                last_status=Status.COMPLETED,
            )
        job.stage = Stage.POLL
        return Again(self._backoff.interval(job))
