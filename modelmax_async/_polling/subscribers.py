"""The callers that wait for one job: a coroutine, and an iterator of its statuses.

Each waits on a future or an event of its own, so that cancelling one affects no other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from modelmax_async._errors import JobFailedError, JobTimeoutError, fresh
from modelmax_async._errors.sentences import sentence
from modelmax_async._models import Job, Result, Status, StatusReport
from modelmax_async._polling.job import Done, End, PolledJob, Stage, Stopped
from modelmax_async._polling.poller import Poller
from modelmax_async._polling.waits import Wait
from modelmax_async._runtime.hooks import call_safely

#: The last poll before a deadline comes this many seconds before it, and in a batch up to as
#: many more; but at most this fraction of the whole wait before it.
_LAST, _LAST_SPREAD, _LAST_FRACTION = 2.0, 5.0, 0.2
#: Status reports that an iterator keeps while it is not advanced. A job has three changes.
_REPORTS = 8
OnStatus = Callable[[StatusReport], object]


class _One:
    """A coroutine that wants the result of one job."""

    bills = True

    def __init__(self, on_status: OnStatus | None, timeout: float | None) -> None:
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.last_poll, self.gap = last_poll(timeout)
        self._on_status = on_status

    def on_status(self, report: StatusReport) -> None:
        if self._on_status is not None:
            call_safely(self._on_status, report)

    def on_end(self, end: End) -> None:
        if isinstance(end, Stopped):
            self.future.set_exception(fresh(end.error))
        else:
            assert isinstance(end, Done)  # noqa: S101 - it wants the result
            self.future.set_result(end.result)


async def wait_one(
    poller: Poller, job: Job, timeout: float | None, on_status: OnStatus | None
) -> Result:
    """Wait for one job's result, ``timeout`` seconds at most."""
    with Wait(poller.hooks, job):
        return await _wait_one(poller, job, timeout, on_status)


async def _wait_one(
    poller: Poller, job: Job, timeout: float | None, on_status: OnStatus | None
) -> Result:
    one = _One(on_status, timeout)
    polled = poller.subscribe(job, one)
    try:
        await asyncio.wait([one.future], timeout=timeout)
        if one.future.done():
            return one.future.result()
        raise timed_out(polled, timeout)
    finally:
        poller.unsubscribe(polled, one)
        if not one.future.cancel() and not one.future.cancelled():
            one.future.exception()  # marked as seen, even if the caller was just cancelled


def last_poll(timeout: float | None, share: float = 0.0) -> tuple[float | None, float]:
    """Return when to poll at the latest in a wait of ``timeout`` seconds that begins now.

    The second value is how many seconds before that a poll serves as well. A ``share`` from 0
    to 1 spreads the last polls of a batch.
    """
    if timeout is None:
        return None, 0.0
    before = min(_LAST + _LAST_SPREAD * share, timeout * _LAST_FRACTION)
    return asyncio.get_running_loop().time() + timeout - before, before


def timed_out(polled: PolledJob, timeout: float | None) -> JobTimeoutError:
    """Return the error of a wait that took too long, with what to do.

    If the latest calls failed, the last of their errors is its cause.
    """
    status = None if polled.last is None else polled.last.status
    error = None if polled.failures is None else fresh(polled.failures.error)
    made = JobTimeoutError(
        f"no result within {timeout} seconds: {_standing(polled, status)} Wait for the same "
        "job again",
        job=polled.job,
        last_status=status,
    )
    made.__cause__ = error
    return made


def _standing(polled: PolledJob, status: str | None) -> str:
    """Return a sentence about what is known of a job, and no more than that."""
    if polled.failures is None:
        return (
            "it is COMPLETED, and its result is stored as soon as it is fetched."
            if status == Status.COMPLETED
            else f"its last known status is {status}, and it is still running on the server."
            if status is not None
            else "its status is not known yet, and it may still be running on the server."
        )
    known = (
        "its status is not known, because every status call failed"
        if status is None
        else "it is COMPLETED, but the attempts to fetch its result failed at no charge"
        if polled.stage is Stage.FETCH
        else f"its last known status is {status}, but the status calls since have failed"
    )
    count, error = polled.failures.count, polled.failures.error
    calls = "1 call" if count == 1 else f"{count} calls"
    return f"{known} ({calls}). The last error: {sentence(str(error))}"


class _Watcher:
    """An iterator over the statuses of one job. It never has a job billed.

    If a server invents changes while it is not advanced, it keeps the latest of them.
    """

    bills = False
    last_poll: float | None = None
    gap = 0.0

    def __init__(self) -> None:
        self.reports: deque[StatusReport] = deque(maxlen=_REPORTS)
        self.error: Exception | None = None
        self.news = asyncio.Event()

    def on_status(self, report: StatusReport) -> None:
        self.reports.append(report)
        self.news.set()

    def on_end(self, end: End) -> None:
        match end:
            case Done(result):  # from the ledger, it may come without any poll
                self.reports.append(StatusReport(result.request_id, Status.COMPLETED))
            case Stopped(error):
                self.error = error
                if isinstance(error, JobFailedError):
                    id_ = error.job.request_id
                    self.reports.append(StatusReport(id_, Status.FAILED, error.error))
        self.news.set()


async def watch(poller: Poller, job: Job) -> AsyncGenerator[StatusReport, None]:
    """Yield each change of a job's status, to a terminal one."""
    watcher = _Watcher()
    polled = poller.subscribe(job, watcher)
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
        poller.unsubscribe(polled, watcher)
