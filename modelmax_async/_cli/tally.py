"""How a batch stands: its jobs by state, and the time that it still needs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from modelmax_async._cli.exits import Exit, exit_of
from modelmax_async._errors import JobTimeoutError
from modelmax_async._models import Job, Outcome, Status
from modelmax_async._polling.forecast import Expected
from modelmax_async.events import (
    BilledCallArmed,
    ClaimReleased,
    Event,
    JobSubmitted,
    ResultStored,
    ResultUncertain,
    StatusPolled,
)


class State(StrEnum):
    """The state of a job of a batch."""

    WAITING = "waiting"  # not submitted yet, or in the server's queue
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNCERTAIN = "uncertain"  # of a charge or a submit, only ModelMax knows the outcome
    UNFINISHED = "unfinished"  # timed out, and still running on the server


def state_of(outcome: Outcome) -> State:
    """Return the state that a job has ended in."""
    if outcome.error is None:
        return State.DONE
    if isinstance(outcome.error, JobTimeoutError):
        return State.UNFINISHED
    return State.UNCERTAIN if exit_of(outcome.error) is Exit.UNCERTAIN else State.FAILED


class Tally:
    """Counts the jobs of a batch, from the client's events and the outcomes.

    Args:
        total: how many jobs the batch has.
        clock: returns the time in seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.ends: Counter[State] = Counter()
        self._clock = clock
        self._open: dict[str, tuple[Job, float]] = {}  # and since when
        self._running: set[str] = set()
        self._billed: set[str] = set()
        self._times = 0.0  # seconds that jobs took, from when each was seen first
        self._timed = 0
        self._most_open = 1

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return self.ends.total()

    @property
    def billing(self) -> int:
        """How many billed calls are in progress."""
        return len(self._billed)

    def on_event(self, event: Event) -> None:
        """Note an event of the client."""
        match event:
            case JobSubmitted(job):
                self._see(job)
            case StatusPolled(job, status):
                self._see(job)
                if status == Status.IN_PROGRESS:
                    self._running.add(job.request_id)
            case BilledCallArmed(job):
                self._billed.add(job.request_id)
            case ResultStored(job) | ResultUncertain(job) | ClaimReleased(job):
                self._billed.discard(job.request_id)

    def _see(self, job: Job) -> None:
        self._open.setdefault(job.request_id, (job, self._clock()))
        self._most_open = max(self._most_open, len(self._open))

    def on_outcome(self, outcome: Outcome) -> State:
        """Note the end of a job, and return its state."""
        state = state_of(outcome)
        self.ends[state] += 1
        if outcome.job is not None:
            self._running.discard(outcome.job.request_id)
            seen = self._open.pop(outcome.job.request_id, None)
            if seen is not None:
                self._times += self._clock() - seen[1]
                self._timed += 1
        return state

    def counts(self) -> dict[State, int]:
        """Return the number of jobs in each state; they add up to the total."""
        running = len(self._running)
        waiting = max(0, self.total - self.ended - running)
        return {State.WAITING: waiting, State.RUNNING: running} | {
            state: self.ends[state]
            for state in State
            if state not in {State.WAITING, State.RUNNING}
        }

    def left(self, expected: Callable[[Job], Expected | None]) -> float | None:
        """Return the seconds until the batch is done, ``None`` as long as none can be told.

        They are those of the slowest open job, by what the client has learnt, and those of the
        jobs to come: each takes as long as those before, and as many are open at once.
        """
        to_come = max(0, self.total - self.ended - len(self._open))
        times = [e.median for job, _ in self._open.values() if (e := expected(job)) is not None]
        if to_come and not self._timed:
            return None
        if to_come:
            usual = self._times / self._timed
            return max(times, default=usual) + to_come * usual / self._most_open
        return max(times, default=None)
