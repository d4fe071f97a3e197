"""The poller: one stream of status calls for each job, however many wait for it.

A visit of a job takes it as far as it goes now: open it in the ledger, ask for its status,
and once that is COMPLETED have the settler fetch it. The visit then says when to come back.
"""

from __future__ import annotations

import asyncio

from modelmax_async import _clock
from modelmax_async._entry import Again
from modelmax_async._errors import (
    APIError,
    ClientStateError,
    InconsistentStateError,
    InvalidResponseError,
    JobError,
    JobFailedError,
    ResultUncertainError,
    TransportError,
)
from modelmax_async._events import Hooks, StatusPolled
from modelmax_async._models import Job, Result, Status
from modelmax_async._patience import Patience
from modelmax_async._policy import INCONSISTENT_AFTER
from modelmax_async._schedule import Schedule
from modelmax_async._settle import Settler
from modelmax_async._tasks import Tasks
from modelmax_async._transport import Transport
from modelmax_async._waits import Policies, Subscriber, Wait
from modelmax_async._wire import build_status, parse_status
from modelmax_async.ledger import Key

#: Seconds between two looks at a job that another client is fetching: first and longest.
_HELD = (0.1, 1.0)


class Poller:
    """Visits every job that is waited for, until it ends or nobody waits any more."""

    def __init__(
        self,
        settler: Settler,
        transport: Transport,
        tasks: Tasks,
        hooks: Hooks,
        policies: Policies,
    ) -> None:
        self._settler = settler
        self._transport = transport
        self._hooks = hooks
        self._policies = policies
        self._waits: dict[Key, Wait] = {}
        self.width = policies.width
        self._schedule: Schedule[Wait] = Schedule(
            self._visit, tasks, self.width, policies.random
        )
        self._patience = Patience(policies, self._schedule, hooks)

    def __repr__(self) -> str:
        return f"<Poller: {len(self._waits)} jobs, {self._schedule!r}>"

    def subscribe(self, job: Job, subscriber: Subscriber, *, bulk: bool = False) -> Wait:
        """Wait for a job, with all others who do. ``bulk`` spreads the first visits out."""
        key = self._settler.key(job)
        wait = self._waits.get(key)
        if wait is None:
            wait = Wait(job, key, asyncio.get_running_loop().time())
            self._waits[key] = wait
            spread = self._patience.interval(wait) if bulk else 0.0
            wait.intervals = 0
            self._schedule.put(wait, spread * self._policies.random())
        elif subscriber.bills and not wait.recalled and not wait.busy:
            self._schedule.put(wait, 0.0)
        wait.subscribers[subscriber] = None
        if wait.last is not None:
            subscriber.on_status(wait.last)
        return wait

    def unsubscribe(self, wait: Wait, subscriber: Subscriber) -> None:
        """Wait no longer. With nobody left the polling stops; a billed call goes on."""
        wait.subscribers.pop(subscriber, None)
        if not wait.subscribers and not wait.busy:
            self._forget(wait)

    def notify(self, key: Key) -> None:
        """Visit a job now, if anybody waits for it."""
        wait = self._waits.get(key)
        if wait is not None:
            wait.notified = wait.busy
            if not wait.busy:
                self._schedule.put(wait, 0.0)

    def stop(self) -> None:
        """Start no visit any more; those under way go on."""
        self._schedule.stop()

    def end_all(self) -> None:
        """Tell everybody who still waits that the client was closed."""
        for wait in list(self._waits.values()):
            self._end(wait, None, ClientStateError("the client was closed", job=wait.job))

    async def _visit(self, wait: Wait) -> float | None:
        """Visit a job; return the seconds to the next visit, ``None`` when it is over."""
        wait.notified = False
        try:
            came = await self._advance(wait)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it goes to those who wait
            if isinstance(exc, JobError) and wait.last is not None:
                exc.last_status = wait.last.status
            self._end(wait, None, exc)
            return None
        except BaseException as exc:
            why = f"the waiting was ended from outside ({type(exc).__name__})"
            self._end(wait, None, ClientStateError(why, job=wait.job))
            raise
        if came is None or isinstance(came, Result):
            self._end(wait, came, None)
            return None
        if not wait.subscribers:
            self._forget(wait)
            return None
        return 0.0 if wait.notified else came

    async def _advance(self, wait: Wait) -> float | Result | None:
        """Take the job one visit further: a delay, its result, or nothing more to watch."""
        if wait.bills and not wait.recalled:
            known = await self._recall(wait)
            if known is not None:
                return known
        if not wait.completed:
            delay = await self._poll(wait)
            if delay is not None:
                return delay
        if not wait.bills:
            return None
        return await self._fetch(wait) if wait.recalled else 0.0

    async def _recall(self, wait: Wait) -> float | Result | None:
        """Ask the ledger first: a stored result needs no call at all."""
        try:
            known = await self._settler.recall(wait.key, wait.job)
        except ResultUncertainError:
            if not self._policies.refetch:
                raise
            wait.accept = wait.recalled = True
            return None
        wait.recalled = True
        if isinstance(known, Result) or wait.last is not None:
            return known if isinstance(known, Result) else None
        first = self._patience.interval(wait)
        age = _clock.wall() - known.entry.since
        if not known.granted and known.entry.state == "known" and 0 <= age < first:
            return first - age  # a fresh submit: it cannot have ended yet
        wait.intervals = 0
        return None

    async def _poll(self, wait: Wait) -> float | None:
        """Ask for the status; return the delay to the next visit, ``None`` at COMPLETED."""
        job = wait.job
        try:
            if wait.prepared is None:
                wait.prepared = self._transport.prepare(build_status(job))
            report = await self._transport.poll(
                wait.prepared, lambda reply: parse_status(reply, job, now=_clock.wall())
            )
        except (TransportError, APIError, InvalidResponseError) as exc:
            return self._patience.failed(wait, exc)
        wait.failing_since = None
        self._schedule.speed_up()
        self._hooks.emit(StatusPolled(job, report.status))
        before = wait.last
        if report.status == Status.FAILED and wait.recalled:
            await self._settler.record_failed(job, report.error or "")
        if before is None or before.status != report.status:
            wait.last = report
            for subscriber in list(wait.subscribers):
                subscriber.on_status(report)
        if report.status == Status.FAILED:
            raise JobFailedError(report.error or "(no reason given)", job=job)
        if report.status != Status.COMPLETED:
            wait.completed_since = None
            return self._patience.interval(wait)
        wait.completed = True
        if wait.completed_since is None:
            wait.completed_since = asyncio.get_running_loop().time()
        return None

    async def _fetch(self, wait: Wait) -> float | Result:
        """Have the settler fetch the result, and see what came of it."""
        try:
            outcome = await self._settler.settle(wait.job, accept=wait.accept)
        except ResultUncertainError:
            if wait.accept or not self._policies.refetch:
                raise
            wait.accept = True  # once: a server that never answers must not charge for ever
            return self._policies.retry.delay(0, self._policies.random())
        return outcome if isinstance(outcome, Result) else self._again(wait, outcome)

    def _again(self, wait: Wait, again: Again) -> float:
        if again.reason == "held":
            wait.held += 1
            return min(_HELD[1], _HELD[0] * 2.0 ** min(wait.held, 8)) * self._policies.random()
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

    def _end(self, wait: Wait, result: Result | None, error: Exception | None) -> None:
        """Tell everybody who waits that it is over."""
        self._forget(wait)
        subscribers, wait.subscribers = list(wait.subscribers), {}
        for subscriber in subscribers:
            subscriber.on_end(result, error)

    def _forget(self, wait: Wait) -> None:
        self._schedule.drop(wait)
        if self._waits.get(wait.key) is wait:
            del self._waits[wait.key]
