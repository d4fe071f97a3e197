"""How long to wait before a job is visited again, and when a failure is final."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import attrs

from modelmax_async._errors import APIError, ConfigurationError, ModelMaxError
from modelmax_async._polling.job import Failures, PolledJob, Stage
from modelmax_async._polling.learning import Learning
from modelmax_async._polling.policies import PollingPolicy, WaitState
from modelmax_async._polling.schedule import Schedule
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff, is_final
from modelmax_async.events import CallKind, PollFailed, PollingPaused

#: Seconds between two looks at a job that another client is fetching: first and longest.
_HELD = (0.1, 1.0)
#: With a Retry-After, these pause the polls of the whole client.
_PAUSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@attrs.define
class PollBackoff:
    """Turns a client's policies into delays, and the server's wishes into pauses for all."""

    _poll: PollingPolicy
    _learning: Learning
    _retry: Backoff
    _schedule: Schedule[PolledJob]
    _hooks: Hooks

    def interval(self, job: PolledJob) -> float:
        """Return the seconds to the next poll, at the latest just before a deadline."""
        now = asyncio.get_running_loop().time()
        delay = self._delay(job, now)
        job.intervals += 1
        return _in_time(job, now, delay)

    def before_first(self, job: PolledJob) -> float | None:
        """Return the seconds to the first poll, ``None`` if it is due now.

        The first interval of a fresh submit counts from the submit: the job is not likely to
        have ended before. Other jobs are polled at once, or at a random moment of the spread.
        """
        now = asyncio.get_running_loop().time()
        spread, job.spread = job.spread, 0.0
        if job.intervals or job.last is not None:
            return None
        if job.observation.since_submit(now) is not None:
            first = self._delay(job, job.observation.origin)
            rest = job.observation.origin + first - now
            if rest > 0:
                job.intervals = 1
                job.observation.from_the_start()
                return _in_time(job, now, rest)
        return _in_time(job, now, spread * self._retry.random()) if spread else None

    def first_interval(self, job: PolledJob) -> float:
        """Return what the policy says before the first poll."""
        return self._delay(job, asyncio.get_running_loop().time())

    def _delay(self, job: PolledJob, now: float) -> float:
        observation = job.observation
        forecast = self._learning.forecast(
            job.job.model, observation.basis, now - observation.since
        )
        wait = WaitState(
            model=job.job.model,
            attempts=job.intervals,
            waited=max(0.0, now - job.started),
            age=observation.since_submit(now),
            status=None if job.last is None else job.last.status,
            status_age=0.0 if job.last is None else now - job.changed,
            forecast=forecast,
        )
        delay = float(self._poll.delay(wait, self._retry.random()))
        if not delay >= 0:
            raise ConfigurationError(
                f"poll.delay() must return seconds from 0, got {delay!r}. The job is not "
                "affected: wait for it again with another policy",
                job=job.job,
            )
        return delay

    def held(self, job: PolledJob) -> float:
        """Return the seconds to the next look at a job that another client is fetching."""
        job.held += 1
        return min(_HELD[1], _HELD[0] * 2.0 ** min(job.held, 8)) * self._retry.random()

    def failed(self, job: PolledJob, error: ModelMaxError) -> float:
        """Return the seconds to wait after a call that cost nothing; raise a final failure."""
        now = self._schedule.awake()
        failures = job.failures = job.failures or Failures(now, error)
        failures.error = error
        failing_for = now - failures.since
        if failing_for >= self._retry.policy.give_up_after:
            raise error
        retry_after = None
        if isinstance(error, APIError):
            if is_final(error.status_code, failing_for):
                raise error
            retry_after = error.retry_after
            self._heed(error)
        delay = self._retry.delay(failures.count, error)
        failures.count += 1
        if retry_after and not _pauses(error):
            failures.since += retry_after  # to wait as told is not to fail
        call: CallKind = "result" if job.stage is Stage.FETCH else "status"
        self._hooks.emit(PollFailed(job.job, str(error), delay, call))
        return delay

    def succeeded(self, job: PolledJob) -> None:
        """Note that a call about the job succeeded."""
        job.failures = None
        self._schedule.speed_up()

    def _heed(self, error: APIError) -> None:
        """Do for the whole client what the server asks of it."""
        if error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            self._schedule.slow_down()
        if error.retry_after and _pauses(error):
            self._schedule.pause(error.retry_after)
            self._hooks.emit(PollingPaused(error.retry_after))


def _in_time(job: PolledJob, now: float, delay: float) -> float:
    """Return the delay, cut short to poll once more just before a caller's deadline."""
    deadline = job.next_deadline(now)
    return delay if deadline is None else min(delay, deadline - now)


def _pauses(error: ModelMaxError) -> bool:
    """Whether a Retry-After of this error is meant for the whole client."""
    return isinstance(error, APIError) and error.status_code in _PAUSING
