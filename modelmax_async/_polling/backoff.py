"""How long to wait before a job is visited again, and when a failure is final."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

import attrs

from modelmax_async._errors import APIError, ModelMaxError
from modelmax_async._polling.job import Failures, PolledJob
from modelmax_async._polling.policies import DelayPolicy
from modelmax_async._polling.schedule import Schedule
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff, is_final
from modelmax_async.events import PollFailed, PollingPaused

#: Seconds between two looks at a job that another client is fetching: first and longest.
_HELD = (0.1, 1.0)
#: With a Retry-After, these pause the polls of the whole client.
_PAUSING = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


@attrs.define
class PollBackoff:
    """Turns a client's policies into delays, and the server's wishes into pauses for all."""

    _poll: DelayPolicy
    _retry: Backoff
    _schedule: Schedule[PolledJob]
    _hooks: Hooks

    def interval(self, job: PolledJob) -> float:
        """Return the seconds to the next poll."""
        delay = self._delay(job, job.intervals)
        job.intervals += 1
        return delay

    def first_interval(self, job: PolledJob, age: float = 0.0) -> float | None:
        """Return the rest of the first interval, in seconds, ``age`` seconds after it began."""
        first = self._delay(job, 0)
        return first - age if 0 <= age < first else None

    def _delay(self, job: PolledJob, intervals: int) -> float:
        elapsed = asyncio.get_running_loop().time() - job.started
        return float(self._poll.delay(intervals, elapsed, self._retry.random()))

    def held(self, job: PolledJob) -> float:
        """Return the seconds to the next look at a job that another client is fetching."""
        job.held += 1
        return min(_HELD[1], _HELD[0] * 2.0 ** min(job.held, 8)) * self._retry.random()

    def failed(self, job: PolledJob, error: ModelMaxError) -> float:
        """Return the seconds to wait after a call that cost nothing; raise a final failure."""
        now = self._schedule.awake()
        failures = job.failures = job.failures or Failures(now)
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
        self._hooks.emit(PollFailed(job.job, str(error), delay))
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


def _pauses(error: ModelMaxError) -> bool:
    """Whether a Retry-After of this error is meant for the whole client."""
    return isinstance(error, APIError) and error.status_code in _PAUSING
