"""The poller: one stream of visits for each job, however many callers wait for it."""

from __future__ import annotations

import asyncio
import logging

from modelmax_async._errors import ClientStateError, JobError
from modelmax_async._models import Job
from modelmax_async._polling.backoff import PollBackoff
from modelmax_async._polling.ends import ended_job
from modelmax_async._polling.forecast import Expected
from modelmax_async._polling.job import (
    Again,
    End,
    PolledJob,
    Recall,
    Stopped,
    Subscriber,
    Visit,
)
from modelmax_async._polling.learning import Learning
from modelmax_async._polling.news import News
from modelmax_async._polling.observation import Observation
from modelmax_async._polling.policies import PollingPolicy
from modelmax_async._polling.schedule import Schedule
from modelmax_async._polling.visits import Parts, Visits
from modelmax_async._reprs import always_shown
from modelmax_async._runtime import clock
from modelmax_async.ledger import Key


@always_shown
class Poller:
    """Visits every job that callers wait for, until it ends or no caller waits any more."""

    def __init__(
        self, parts: Parts, poll: PollingPolicy, learning: Learning, max_in_flight: int
    ) -> None:
        self.hooks = parts.hooks
        self._records = parts.records
        self._tasks = parts.tasks
        self._learning = learning
        #: By model too: a model that the server refuses must not end the waiting for another.
        self._jobs: dict[tuple[Key, str], PolledJob] = {}
        self._models: dict[str, None] = {}
        self.max_in_flight = max_in_flight
        self._schedule: Schedule[PolledJob] = Schedule(
            self._visit, self._lost, parts.tasks, max_in_flight, parts.retry.random
        )
        self._news = News(parts.records.ledger, self._schedule)
        self._backoff = PollBackoff(poll, learning, parts.retry, self._schedule, parts.hooks)
        self._visits = Visits(parts, self._backoff, learning)

    def __repr__(self) -> str:
        return f"<Poller: {len(self._jobs)} jobs, {self._schedule!r}>"

    def spread(self, job: Job) -> float:
        """Return the seconds over which the first polls of a large batch are spread.

        It is one interval of the policy; an exception of the policy is raised here.
        """
        self._tasks.bind()
        return self._backoff.first_interval(self._new(job, self._records.key(job)))

    def subscribe(self, job: Job, subscriber: Subscriber, *, spread: float = 0.0) -> PolledJob:
        """Wait for a job, with all others who do.

        Its first poll is put off by a random part of ``spread`` seconds.

        Raises:
            ClientStateError: if the client is closed, or closing.
        """
        loop = self._tasks.bind()
        key = self._records.key(job)
        polled = self._jobs.get((key, job.model))
        if polled is None:
            self._learning.begin()
            polled = self._jobs[key, job.model] = self._new(job, key)
            polled.spread = spread
            self._models[job.model] = None
            self._news.await_for(polled)
            self._schedule.put(polled, 0.0)  # the ledger may have its result
        elif not polled.slot.visited:
            self._join(polled, subscriber, loop.time())
        polled.subscribers[subscriber] = None
        if polled.last is not None:
            subscriber.on_status(polled.last)
        return polled

    def _new(self, job: Job, key: Key) -> PolledJob:
        now = asyncio.get_running_loop().time()
        observation = Observation.start(job, now, clock.wall())
        return PolledJob(job, key, now, observation)

    def _join(self, polled: PolledJob, subscriber: Subscriber, now: float) -> None:
        """Visit a job earlier if a caller who joins needs it."""
        if subscriber.bills and polled.recall is Recall.UNASKED:
            self._schedule.put(polled, 0.0)
        elif subscriber.last_poll is not None and polled.failures is None:
            self._schedule.put_before(polled, subscriber.last_poll - now)

    def unsubscribe(self, polled: PolledJob, subscriber: Subscriber) -> None:
        """Wait no longer. With no subscriber left, the polling stops; a billed call goes on."""
        polled.subscribers.pop(subscriber, None)
        if not polled.subscribers and not polled.slot.visited:
            self._forget(polled)

    def notify(self, key: Key) -> None:
        """Visit a job now, if a caller waits for it."""
        for model in self._models:
            polled = self._jobs.get((key, model))
            if polled is not None:
                polled.intervals = polled.intervals or 1  # its first poll is not put off
                polled.told, polled.resume_at = False, None
                self._schedule.put_now(polled)

    def expected(self, job: Job) -> Expected | None:
        """Return how long a job still takes, as far as was learnt."""
        now = asyncio.get_running_loop().time()
        polled = self._jobs.get((self._records.key(job), job.model))
        if polled is None and job.submitted_at is None:
            return None
        if polled is None or polled.last is None:
            observation = Observation.start(job, now, clock.wall())
            return self._learning.expected_unseen(job.model, observation, now)
        if polled.last.terminal:
            return None
        return self._learning.expected(job.model, polled.observation, now)

    def stop(self) -> None:
        """Start no visit any more; those under way go on."""
        self._schedule.stop()

    def end_all(self) -> None:
        """Tell every caller that still waits that the client was closed."""
        for polled in list(self._jobs.values()):
            closed = ClientStateError("the client was closed", job=polled.job)
            self._end(polled, Stopped(closed))

    async def _visit(self, polled: PolledJob) -> float | None:
        """Visit a job; return the seconds to the next visit, ``None`` if it is over."""
        if not polled.subscribers:  # the last one left just before
            self._forget(polled)
            return None
        self._news.visit_begins(polled)
        try:
            visit: Visit | Stopped = await self._visits.visit(polled)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the subscribers get it
            if isinstance(exc, JobError) and polled.last is not None:
                exc.last_status = polled.last.status
            visit = Stopped(exc)
        if not isinstance(visit, Again):
            self._end(polled, visit)
            return None
        if not polled.subscribers:
            self._forget(polled)
            return None
        return visit.after

    def _lost(self, polled: PolledJob) -> None:
        """End a job whose visit was cancelled: no visit would come back to it."""
        why = "the waiting was ended from outside: the task that polls was cancelled"
        self._end(polled, Stopped(ClientStateError(why, job=polled.job)))

    def _end(self, polled: PolledJob, end: End) -> None:
        self._forget(polled)
        try:
            if self.hooks.wants(logging.INFO):
                ended = ended_job(polled, end, asyncio.get_running_loop().time())
                if ended is not None:
                    self.hooks.emit(ended)
        finally:  # whatever a hook does, those who wait hear of it
            polled.end(end)

    def _forget(self, polled: PolledJob) -> None:
        self._news.forget(polled)
        self._schedule.drop(polled)
        if self._jobs.get((polled.key, polled.job.model)) is polled:
            del self._jobs[polled.key, polled.job.model]
