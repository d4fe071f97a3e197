"""How long to wait before a job is visited again, and when a failure is final."""

from __future__ import annotations

import asyncio

from modelmax_async._errors import APIError, ModelMaxError
from modelmax_async._polling.job import Wait
from modelmax_async._polling.policies import DelayPolicy
from modelmax_async._polling.schedule import Schedule
from modelmax_async._runtime.hooks import Hooks
from modelmax_async._runtime.retry import Backoff, is_final
from modelmax_async.events import PollFailed, PollingPaused


class Patience:
    """Turns a client's policies into delays, and the server's wishes into pauses for all."""

    def __init__(
        self, poll: DelayPolicy, retry: Backoff, schedule: Schedule[Wait], hooks: Hooks
    ) -> None:
        self._policy = poll
        self._retry = retry
        self._schedule = schedule
        self._hooks = hooks

    def failed(self, wait: Wait, error: ModelMaxError) -> float:
        """Return the backoff after a call that cost nothing, or raise when it is final."""
        now = self._schedule.awake()
        if wait.failing_since is None:
            wait.failing_since, wait.failures = now, 0
        failing_for = now - wait.failing_since
        if failing_for >= self._retry.policy.give_up_after:
            raise error
        retry_after = None
        if isinstance(error, APIError):
            if is_final(error.status_code, failing_for):
                raise error
            retry_after = error.retry_after
            self._heed(error)
        delay = self._retry.delay(wait.failures, error)
        wait.failures += 1
        if retry_after and not _pauses(error):
            wait.failing_since += retry_after  # to wait as told is not to fail
        self._hooks.emit(PollFailed(wait.job, str(error), delay))
        return delay

    def answered(self, wait: Wait) -> None:
        """Note that the job's calls do not fail any more."""
        wait.failing_since = None
        self._schedule.speed_up()

    def _heed(self, error: APIError) -> None:
        """Do for the whole client what the server asks of it."""
        if error.status_code == 429:  # noqa: PLR2004 - too many requests
            self._schedule.slow_down()
        if error.retry_after and _pauses(error):
            self._schedule.pause(error.retry_after)
            self._hooks.emit(PollingPaused(error.retry_after))

    def interval(self, wait: Wait) -> float:
        """Return the seconds to the next poll."""
        elapsed = asyncio.get_running_loop().time() - wait.started
        delay = float(self._policy.delay(wait.intervals, elapsed, self._retry.random()))
        wait.intervals += 1
        return delay


def _pauses(error: ModelMaxError) -> bool:
    """Whether the answer asks the whole client for quiet, where it names a time."""
    return isinstance(error, APIError) and error.status_code in {429, 503}
