"""Those who wait: one coroutine for one job, an iterator of its statuses, a whole batch.

Each waits on a future of its own, so that cancelling one touches nobody else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence

from modelmax_async._errors import GatherError, JobFailedError, JobTimeoutError, fresh
from modelmax_async._models import Job, Outcome, Result, Status, StatusReport
from modelmax_async._polling.job import Wait
from modelmax_async._polling.poller import Poller
from modelmax_async._runtime.hooks import call_safely

OnStatus = Callable[[StatusReport], object]
OnOutcome = Callable[[Outcome], object]


class _One:
    """A coroutine that wants the result of one job."""

    bills = True

    def __init__(self, on_status: OnStatus | None) -> None:
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._on_status = on_status

    def on_status(self, report: StatusReport) -> None:
        if self._on_status is not None:
            call_safely(self._on_status, report)

    def on_end(self, result: Result | None, error: Exception | None) -> None:
        if error is not None:
            self.future.set_exception(fresh(error))
        else:
            self.future.set_result(result)  # type: ignore[arg-type]  # without an error there is one


async def wait_one(
    poller: Poller, job: Job, timeout: float | None, on_status: OnStatus | None
) -> Result:
    """Wait for one job's result, ``timeout`` seconds at most."""
    one = _One(on_status)
    wait = poller.subscribe(job, one)
    try:
        await asyncio.wait([one.future], timeout=timeout)
        if one.future.done():
            return one.future.result()
        raise timed_out(job, wait.last, timeout)
    finally:
        poller.unsubscribe(wait, one)
        if not one.future.cancel() and not one.future.cancelled():
            one.future.exception()  # seen, even if the caller was cancelled just now


def timed_out(job: Job, last: StatusReport | None, timeout: float | None) -> JobTimeoutError:
    """Return the error of a wait that took too long, with what to do."""
    status = None if last is None else last.status
    then = (
        "it is ready, and its result is stored as soon as it is fetched"
        if status == Status.COMPLETED
        else f"its last status was {status or 'not known yet'}, and it goes on at the server"
    )
    return JobTimeoutError(
        f"not finished after {timeout} seconds; {then}. Wait for the same job again",
        job=job,
        last_status=status,
    )


class _Watcher:
    """An iterator over the statuses of one job. It never has anything billed."""

    bills = False

    def __init__(self) -> None:
        self.reports: deque[StatusReport] = deque()
        self.error: Exception | None = None
        self.news = asyncio.Event()

    def on_status(self, report: StatusReport) -> None:
        self.reports.append(report)
        self.news.set()

    def on_end(self, result: Result | None, error: Exception | None) -> None:
        if isinstance(error, JobFailedError):
            failed = StatusReport(error.job.request_id, Status.FAILED, error.error)
            self.reports.append(failed)
        elif result is not None:  # from the ledger, perhaps, without any poll
            self.reports.append(StatusReport(result.request_id, Status.COMPLETED))
        self.error = error
        self.news.set()


async def watch(poller: Poller, job: Job) -> AsyncGenerator[StatusReport, None]:
    """Yield each change of a job's status, to a terminal one."""
    watcher = _Watcher()
    wait = poller.subscribe(job, watcher)
    try:
        while True:
            await watcher.news.wait()
            watcher.news.clear()
            while watcher.reports:
                report = watcher.reports.popleft()
                yield report
                if report.terminal:
                    return
            if watcher.error is not None:
                raise fresh(watcher.error)
    finally:
        poller.unsubscribe(wait, watcher)


class Batch:
    """Many jobs waited for together; a job that fails touches no other."""

    def __init__(self, poller: Poller, jobs: Sequence[Job]) -> None:
        self._poller = poller
        self._members = {_same(job): _Member(self, job) for job in jobs}
        self.open = len(self._members)
        self.ended: deque[Outcome] = deque()
        self.news = asyncio.Event()
        bulk = self.open > poller.max_in_flight
        try:
            for member in self._members.values():
                member.wait = poller.subscribe(member.job, member, bulk=bulk)
        except BaseException:
            self.leave()  # nobody would wait for what those who subscribed bring
            raise

    def end(self, outcome: Outcome) -> None:
        """Note how one job ended."""
        self.open -= 1
        self.ended.append(outcome)
        self.news.set()

    def expire(self, timeout: float | None) -> None:
        """End every job that is still waited for: the deadline is past."""
        for member in self._members.values():
            if not member.over and member.wait is not None:
                # At once: the consumer may be busy for long before it comes back to leave.
                self._poller.unsubscribe(member.wait, member)
                member.on_end(None, timed_out(member.job, member.wait.last, timeout))

    def leave(self) -> None:
        """Wait for nothing any more."""
        for member in self._members.values():
            if member.wait is not None:
                self._poller.unsubscribe(member.wait, member)


class _Member:
    """One job of a batch."""

    __slots__ = ("_batch", "job", "over", "wait")
    bills = True

    def __init__(self, batch: Batch, job: Job) -> None:
        self._batch = batch
        self.job = job
        self.over = False
        self.wait: Wait | None = None

    def on_status(self, report: StatusReport) -> None:
        """Ignore it: a batch hears of ends."""

    def on_end(self, result: Result | None, error: Exception | None) -> None:
        self.over = True
        own = fresh(error) if error is not None else None
        self._batch.end(Outcome(self.job, result, own))


def _same(job: Job) -> tuple[str, str]:
    """Return what two jobs share that are one; under another model it is another."""
    return job.request_id, job.model


async def each_outcome(
    poller: Poller,
    jobs: Sequence[Job],
    timeout: float | None,
    delivered: Callable[[Job], None] | None = None,
) -> AsyncGenerator[Outcome, None]:
    """Yield the outcome of each different job as it ends; one deadline for all.

    ``delivered`` is told of each result that has been handed out.
    """
    loop = asyncio.get_running_loop()
    batch = Batch(poller, jobs)
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
                    if delivered is not None and outcome.result is not None:
                        delivered(outcome.job)
    finally:
        if timer is not None:
            timer.cancel()
        batch.leave()


async def gather(
    outcomes: AsyncGenerator[Outcome, None], jobs: Sequence[Job], on_outcome: OnOutcome | None
) -> list[Outcome]:
    """Return the outcomes of all jobs in the order given, duplicates included."""
    found: dict[tuple[str, str], Outcome] = {}
    async for outcome in outcomes:
        found[_same(outcome.job)] = outcome
        if on_outcome is not None:
            call_safely(on_outcome, outcome)
    return [found[_same(job)] for job in jobs]


def results_of(outcomes: Sequence[Outcome]) -> list[Result]:
    """Return the results of outcomes that are all good.

    Raises:
        GatherError: when one is not; it has all outcomes, the good ones too.
    """
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    errors = {_same(o.job): o.error for o in outcomes if o.error is not None}
    if errors:
        raise GatherError(
            f"{len(errors)} of the jobs did not end in a result; the results of the others "
            "are in .outcomes and in the ledger",
            list(errors.values()),
            outcomes=outcomes,
        )
    return results
