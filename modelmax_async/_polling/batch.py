"""Many jobs waited for together, and their outcomes as they end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence

from modelmax_async._errors import GatherError, fresh
from modelmax_async._models import Failed, Job, Result, StatusReport, Succeeded
from modelmax_async._polling.job import Done, End, PolledJob, Stopped
from modelmax_async._polling.poller import Poller
from modelmax_async._polling.subscribers import last_poll, timed_out
from modelmax_async._polling.waits import Wait
from modelmax_async._runtime.hooks import call_safely

Ended = Succeeded | Failed
OnOutcome = Callable[[Ended], object]


class Batch:
    """Many jobs waited for together; a job that fails affects no other."""

    def __init__(self, poller: Poller, jobs: Sequence[Job], timeout: float | None) -> None:
        self._poller = poller
        self.hooks = poller.hooks
        self._members = {_identity(job): _Member(self, job) for job in jobs}
        self.open = len(self._members)
        self.ended: deque[Ended] = deque()
        self.news = asyncio.Event()
        self.gap = 0.0
        bulk = self.open > poller.max_in_flight
        spread = poller.spread(jobs[0]) if bulk else 0.0
        try:
            for number, member in enumerate(self._members.values()):
                share = number / len(self._members) if bulk else 0.0
                member.last_poll, self.gap = last_poll(timeout, share)
                member.wait.begin()
                member.polled = poller.subscribe(member.job, member, spread=spread)
        except BaseException:
            self.leave()  # or jobs would be billed that no caller waits for
            raise

    def end(self, outcome: Ended) -> None:
        """Note how one job ended."""
        self.open -= 1
        self.ended.append(outcome)
        self.news.set()

    def expire(self, timeout: float | None) -> None:
        """End every job that has not ended: the deadline has passed."""
        for member in self._members.values():
            if not member.over and member.polled is not None:
                # At once: the consumer may be busy for long before it comes back to leave.
                self._poller.unsubscribe(member.polled, member)
                member.on_end(Stopped(timed_out(member.polled, timeout)))

    def leave(self) -> None:
        """Wait for no job any more."""
        for member in self._members.values():
            if member.polled is not None:
                self._poller.unsubscribe(member.polled, member)
            member.wait.end(left=True)


class _Member:
    """One job of a batch."""

    __slots__ = ("_batch", "job", "last_poll", "over", "polled", "wait")
    bills = True

    def __init__(self, batch: Batch, job: Job) -> None:
        self._batch = batch
        self.job = job
        self.last_poll: float | None = None
        self.over = False
        self.polled: PolledJob | None = None
        self.wait = Wait(batch.hooks, job)

    @property
    def gap(self) -> float:
        """See `Subscriber`; it is the same for the whole batch."""
        return self._batch.gap

    def on_status(self, report: StatusReport) -> None:
        """Ignore it: a batch only needs the ends."""

    def on_end(self, end: End) -> None:
        self.over = True
        error = fresh(end.error) if isinstance(end, Stopped) else None
        self.wait.end(error)
        if error is not None:
            self._batch.end(Failed(self.job, error))
        else:
            assert isinstance(end, Done)  # noqa: S101 - it wants the result
            self._batch.end(Succeeded(self.job, end.result))


def _identity(job: Job | None) -> tuple[str, str]:
    """Return what makes two jobs one; the same id under another model is another job."""
    assert job is not None  # noqa: S101 - the outcomes of a batch have their jobs
    return job.request_id, job.model


async def each_outcome(
    poller: Poller,
    jobs: Sequence[Job],
    timeout: float | None,
    delivered: Callable[[Job], None] | None = None,
) -> AsyncGenerator[Ended, None]:
    """Yield the outcome of each different job as it ends; one deadline for all.

    ``delivered`` is called with the job of each result that was yielded.
    """
    loop = asyncio.get_running_loop()
    batch = Batch(poller, jobs, timeout)
    timer = None if timeout is None else loop.call_later(timeout, batch.expire, timeout)
    try:
        while batch.open or batch.ended:
            await batch.news.wait()
            batch.news.clear()
            while batch.ended:
                outcome = batch.ended.popleft()
                try:
                    yield outcome
                finally:
                    if delivered is not None and outcome.error is None:
                        delivered(outcome.job)
    finally:
        if timer is not None:
            timer.cancel()
        batch.leave()


async def gather(
    outcomes: AsyncGenerator[Ended, None], jobs: Sequence[Job], on_outcome: OnOutcome | None
) -> list[Ended]:
    """Return the outcomes of all jobs in the order given, duplicates included."""
    found: dict[tuple[str, str], Ended] = {}
    async for outcome in outcomes:
        found[_identity(outcome.job)] = outcome
        if on_outcome is not None:
            call_safely(on_outcome, outcome)
    return [found[_identity(job)] for job in jobs]


def results_of(outcomes: Sequence[Ended]) -> list[Result]:
    """Return the results of outcomes that all succeeded.

    Raises:
        GatherError: if one failed; it has all outcomes, also those that succeeded.
    """
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    errors = {_identity(o.job): o.error for o in outcomes if o.error is not None}
    if errors:
        raise GatherError(
            f"{len(errors)} of the jobs ended without a result; the results of the others are "
            "in .outcomes and in the ledger",
            list(errors.values()),
            outcomes=outcomes,
        )
    return results
