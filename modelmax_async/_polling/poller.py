"""The poller: one stream of visits for each job, however many wait for it."""

from __future__ import annotations

from modelmax_async._billing.records import Records
from modelmax_async._billing.settler import Settler
from modelmax_async._errors import ClientStateError, JobError
from modelmax_async._http import Transport
from modelmax_async._models import Job, Result
from modelmax_async._polling.backoff import Patience
from modelmax_async._polling.job import Subscriber, Wait
from modelmax_async._polling.policies import DelayPolicy
from modelmax_async._polling.schedule import Schedule
from modelmax_async._polling.visits import Visits
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff
from modelmax_async._runtime.tasks import Tasks
from modelmax_async.ledger import Key


class Poller:
    """Visits every job that is waited for, until it ends or nobody waits any more."""

    def __init__(
        self,
        *,
        settler: Settler,
        records: Records,
        transport: Transport,
        tasks: Tasks,
        hooks: Hooks,
        poll: DelayPolicy,
        retry: Backoff,
        refetch: bool,
        max_in_flight: int,
    ) -> None:
        self._records = records
        self._tasks = tasks
        self._random = retry.random
        #: By model too: one that the server refuses must not end the waiting under another.
        self._waits: dict[tuple[Key, str], Wait] = {}
        self._models: dict[str, None] = {}
        self.max_in_flight = max_in_flight
        self._schedule: Schedule[Wait] = Schedule(
            self._visit, self._lost, tasks, max_in_flight, retry.random
        )
        self._patience = Patience(poll, retry, self._schedule, hooks)
        self._visits = Visits(
            settler=settler,
            records=records,
            transport=transport,
            hooks=hooks,
            retry=retry,
            refetch=refetch,
            patience=self._patience,
        )

    def __repr__(self) -> str:
        return f"<Poller: {len(self._waits)} jobs, {self._schedule!r}>"

    def subscribe(self, job: Job, subscriber: Subscriber, *, bulk: bool = False) -> Wait:
        """Wait for a job, with all others who do. ``bulk`` spreads the first visits out.

        Raises:
            ClientStateError: when the client is closed, or closing.
        """
        loop = self._tasks.bind()
        key = self._records.key(job)
        wait = self._waits.get((key, job.model))
        if wait is None:
            wait = Wait(job, key, loop.time())
            spread = self._patience.interval(wait) if bulk else 0.0  # a user's policy may raise
            wait.intervals = 0
            self._waits[key, job.model] = wait
            self._models[job.model] = None
            self._schedule.put(wait, spread * self._random())
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
        for model in self._models:
            wait = self._waits.get((key, model))
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
        if not wait.subscribers:  # the last one left when the visit before had just ended
            self._forget(wait)
            return None
        try:
            came = await self._visits.advance(wait)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it goes to those who wait
            if isinstance(exc, JobError) and wait.last is not None:
                exc.last_status = wait.last.status
            self._end(wait, None, exc)
            return None
        if came is None or isinstance(came, Result):
            self._end(wait, came, None)
            return None
        if not wait.subscribers:
            self._forget(wait)
            return None
        return 0.0 if wait.notified else came

    def _lost(self, wait: Wait) -> None:
        """End a wait whose visit was cancelled: nobody would come back to it."""
        why = "the waiting was ended from outside: the task that polls was cancelled"
        self._end(wait, None, ClientStateError(why, job=wait.job))

    def _end(self, wait: Wait, result: Result | None, error: Exception | None) -> None:
        """Tell everybody who waits that it is over."""
        self._forget(wait)
        subscribers, wait.subscribers = list(wait.subscribers), {}
        for subscriber in subscribers:
            subscriber.on_end(result, error)

    def _forget(self, wait: Wait) -> None:
        self._schedule.drop(wait)
        if self._waits.get((wait.key, wait.job.model)) is wait:
            del self._waits[wait.key, wait.job.model]
