"""One visit of a job: as far as it goes now.

Open it in the ledger, ask for its status, and once that is COMPLETED have the settler fetch
it. The visit then says when to come back.
"""

from __future__ import annotations

import asyncio

from modelmax_async._api.endpoints import build_status, parse_status
from modelmax_async._billing.decisions import Decision
from modelmax_async._billing.outcomes import Again, read_entry
from modelmax_async._billing.records import Records
from modelmax_async._billing.settler import Settler
from modelmax_async._errors import (
    APIError,
    InconsistentStateError,
    InvalidResponseError,
    JobFailedError,
    ModelMaxError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._http import Transport
from modelmax_async._models import LedgerEntry, Result, Status, StatusReport
from modelmax_async._polling.backoff import Patience
from modelmax_async._polling.job import Wait
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff
from modelmax_async.events import StatusPolled
from modelmax_async.ledger.moves import Fail, Remember
from modelmax_async.ledger.transitions import is_held

#: COMPLETED on status but not on result for longer than this is an error.
INCONSISTENT_AFTER = 60.0
#: Seconds between two looks at a job that another client is fetching: first and longest.
_HELD = (0.1, 1.0)


class Visits:
    """What a visit does, from the ledger to the fetched result."""

    def __init__(
        self,
        *,
        settler: Settler,
        records: Records,
        transport: Transport,
        hooks: Hooks,
        retry: Backoff,
        refetch: bool,
        patience: Patience,
    ) -> None:
        self._settler = settler
        self._records = records
        self._transport = transport
        self._hooks = hooks
        self._retry = retry
        self._may_refetch = refetch
        self._patience = patience

    async def advance(self, wait: Wait) -> float | Result | None:
        """Take the job one visit further: a delay, its result, or nothing more to watch."""
        if wait.bills and not wait.recalled:
            known = await self._recall_for_some(wait)
            if known is not None:
                return known
        if not wait.completed:
            delay = await self._poll(wait)
            if delay is not None:
                return delay
        if not wait.bills:
            return None
        return await self._fetch(wait) if wait.recalled else 0.0

    async def _recall_for_some(self, wait: Wait) -> float | Result | None:
        """Recall; what the ledger says against it concerns those who want the result only."""
        try:
            return await self._recall(wait)
        except ModelMaxError as exc:
            if isinstance(exc, JobFailedError) or not wait.end_billing(exc):
                raise
            wait.recalled = False  # for those who want it later
            return None

    async def _recall(self, wait: Wait) -> float | Result | None:
        """Ask the ledger first: a stored result needs no call at all."""
        if (kept := self._settler.unsaved(wait.job)) is not None:
            return kept
        entry = await self._records.look(wait.job)
        wait.recalled = True
        if entry is None:
            return None
        wait.acknowledged = entry.acknowledged and entry.job.model == wait.job.model
        try:
            known = read_entry(entry, wait.job)
        except ResultUncertainError as exc:
            self._refetch(wait, exc)
            return None
        return known or self._first_poll(wait, entry)

    def _first_poll(self, wait: Wait, entry: LedgerEntry) -> float | None:
        """Return the delay to the first poll of a fresh submit: it cannot have ended yet."""
        if wait.last is not None:
            return None
        first = self._patience.interval(wait)
        age = clock.wall() - entry.since
        if entry.state == "known" and 0 <= age < first:
            return first - age
        wait.intervals = 0
        return None

    def _refetch(self, wait: Wait, error: ResultUncertainError) -> None:
        """Decide to pay again where the client was told to.

        Once for each wait: a server that never answers must not charge for ever.
        """
        if wait.decision is not None or not self._may_refetch or error.attempt is None:
            raise error
        wait.decision = Decision(error.attempt, None, lambda: wait.bills)

    async def _poll(self, wait: Wait) -> float | Result | None:
        """Ask for the status; return the delay to the next visit, ``None`` at COMPLETED."""
        job = wait.job
        try:
            if wait.prepared is None:
                wait.prepared = self._transport.prepare(build_status(job))
            report = await self._transport.poll(
                wait.prepared, lambda reply: parse_status(reply, job, now=clock.wall())
            )
        except (TransportError, APIError, InvalidResponseError) as exc:
            return self._patience.failed(wait, exc)
        self._patience.answered(wait)
        self._hooks.emit(StatusPolled(job, report.status))
        before = wait.last
        if before is None or before.status != report.status:
            wait.last = report
            for subscriber in list(wait.subscribers):
                subscriber.on_status(report)
        if report.status == Status.FAILED:
            return await self._failed(wait, report)
        await self._acknowledge(wait)
        if report.status != Status.COMPLETED:
            wait.completed_since = None
            return self._patience.interval(wait)
        wait.completed = True
        if wait.completed_since is None:
            wait.completed_since = asyncio.get_running_loop().time()
        return None

    async def _acknowledge(self, wait: Wait) -> None:
        """Record a job that the server knows, if a caller wants its result."""
        if wait.recalled and not wait.acknowledged:
            await self._records.note(wait.job, Remember(wait.job))
            wait.acknowledged = True

    async def _failed(self, wait: Wait, report: StatusReport) -> float | Result:
        """Record that the job FAILED, and see what the ledger says of its billed call.

        Raises:
            JobFailedError: it was never billed.
            ResultUncertainError, InvalidResponseError: it may have been, whatever status says.
        """
        if wait.bills and not wait.recalled:  # joined while only others watched
            known = await self._recall(wait)
            if isinstance(known, Result):
                return known
        await self._acknowledge(wait)
        if wait.recalled:
            error, gone = report.error or "", self._records.leases.gone(wait.key)
            done = await self._records.note(wait.job, Fail(error, takeover=gone))
            if done is not None and is_held(done.entry):
                return self._again(wait, self._records.held(wait.job, done.entry))
            also = f"now the server says FAILED: {error}"
            known = None if done is None else read_entry(done.entry, wait.job, also=also)
            if known is not None:
                return known
        raise JobFailedError(report.error or "(no reason given)", job=wait.job)

    async def _fetch(self, wait: Wait) -> float | Result:
        """Have the settler fetch the result, and return what it led to."""
        try:
            outcome = await self._settler.settle(
                wait.job, decision=wait.decision, acknowledged=True
            )
        except ResultUncertainError as exc:
            self._refetch(
                wait, exc
            )  # once: a server that never answers must not charge for ever
            return self._retry.delay(0)
        return outcome if isinstance(outcome, Result) else self._again(wait, outcome)

    def _again(self, wait: Wait, again: Again) -> float:
        if again.reason == "held":
            wait.held += 1
            return min(_HELD[1], _HELD[0] * 2.0 ** min(wait.held, 8)) * self._retry.random()
        if again.reason == "not ready":
            return self._not_ready(wait, again.status)
        assert again.error is not None  # noqa: S101 - what is unbilled has its error
        return self._patience.failed(wait, again.error)

    def _not_ready(self, wait: Wait, status: str | None) -> float:
        since = wait.completed_since or wait.started
        if asyncio.get_running_loop().time() - since > INCONSISTENT_AFTER:
            raise InconsistentStateError(
                f"status says COMPLETED, result has said {status} for {INCONSISTENT_AFTER:.0f} "
                "seconds; nothing was billed. Wait again later",
                job=wait.job,
                last_status=Status.COMPLETED,
            )
        wait.completed = False
        return self._patience.interval(wait)
