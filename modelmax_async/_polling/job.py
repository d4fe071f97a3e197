"""A job that callers wait for: its subscribers, and what is known of it, part by part.

Each part is written to by one owner: the subscribers by the poller, the slot by the schedule,
intervals and failures by the backoff, the news by `News`, the rest by the visits.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Protocol

import attrs

from modelmax_async._billing.decisions import Decision
from modelmax_async._errors import APIError, InvalidResponseError, ModelMaxError, fresh
from modelmax_async._http import Prepared
from modelmax_async._models import Job, Result, StatusReport
from modelmax_async._polling.observation import Observation
from modelmax_async._polling.progress import Progress
from modelmax_async._polling.schedule import Slot
from modelmax_async.ledger import Key

#: Bytes of an unreadable response that a waiting job keeps.
_EXCERPT = 2000


@attrs.frozen
class Again:
    """The job is to be visited again, ``after`` so many seconds."""

    after: float


@attrs.frozen
class Done:
    """The waiting is over: the job has a result."""

    result: Result


@attrs.frozen
class Watched:
    """The watching is over: the status is terminal, and no subscriber wants the result."""


@attrs.frozen
class Stopped:
    """The waiting is over, because of an error."""

    error: Exception


#: What a visit returns, and what subscribers receive in the end.
Visit = Again | Done | Watched
End = Done | Watched | Stopped


class Subscriber(Protocol):
    """A caller that waits for a job. If it ``bills``, it wants the result; else it watches.

    Its wait may have a deadline. Then the job is polled at ``last_poll``, just before that and
    by the loop's clock, unless it is polled in the last ``gap`` seconds before that anyway.
    """

    bills: bool
    last_poll: float | None

    @property
    def gap(self) -> float:
        """See above."""

    def on_status(self, report: StatusReport) -> None:
        """Receive a status that differs from the one before."""

    def on_end(self, end: End) -> None:
        """Receive the end. It is not `Watched` for a subscriber that wants the result."""


class Recall(enum.IntEnum):
    """Whether the ledger was asked about a job, and knows that the server acknowledged it."""

    UNASKED = 0
    ASKED = 1
    ACKNOWLEDGED = 2


class Stage(enum.Enum):
    """What the next visit of a job does."""

    POLL = enum.auto()
    FETCH = enum.auto()
    """The status is COMPLETED: it has the result fetched."""


def _without_response(error: ModelMaxError) -> ModelMaxError:
    """Return a copy of an error that holds little of the response, for as long as a wait lasts.

    The frames of the original's traceback hold all of it.
    """
    copy = fresh(error)
    if isinstance(copy, InvalidResponseError):
        copy.body, copy.__cause__ = copy.body[:_EXCERPT], None
    elif isinstance(copy, APIError):
        copy.details = {}
    return copy


@attrs.define(eq=False)
class Failures:
    """How many calls about a job failed in a row, and since when by `Schedule.awake`.

    ``error`` is the last of their errors, with an excerpt of the response at most.
    """

    since: float
    error: ModelMaxError = attrs.field(converter=_without_response)
    count: int = 0


@attrs.define(eq=False, weakref_slot=False)
class PolledJob:
    """One job that callers wait for.

    Attributes:
        started: when the waiting began, by the loop's clock.
        observation: what is observed of its age.
        subscribers: the callers that wait for it, in the order of their arrival.
        failures: ``None`` if its last call succeeded.
        spread: seconds over which the first polls of its batch are spread.
        intervals: how many intervals between polls there were.
        last: the last status report that differed from the one before, without the JSON body.
        changed: when that was received, by the loop's clock.
        progress: what the polls have shown of its times.
        completed_since: when the status became COMPLETED, by the loop's clock; ``None`` if the
            last status was another one.
        decision: the client's decision to fetch again, made once at most.
        held: how often another client's attempt was met.
        news: done once the ledger tells of a change; ``None`` if it tells of none.
        told: whether news arrived during the visit that is under way.
        resume_at: when its calls are due, by the loop's clock, if news have it visited before.
    """

    job: Job
    key: Key
    started: float
    observation: Observation
    subscribers: dict[Subscriber, None] = attrs.field(factory=dict)
    slot: Slot = attrs.field(factory=Slot)
    failures: Failures | None = None
    prepared: Prepared | None = None
    spread: float = 0.0
    intervals: int = 0
    last: StatusReport | None = None
    changed: float = 0.0
    progress: Progress = attrs.field(factory=Progress)
    stage: Stage = Stage.POLL
    completed_since: float | None = None
    recall: Recall = Recall.UNASKED
    decision: Decision | None = None
    held: int = 0
    news: asyncio.Future[None] | None = None
    told: bool = False
    resume_at: float | None = None

    @property
    def bills(self) -> bool:
        """Whether a subscriber wants the result."""
        return any(subscriber.bills for subscriber in self.subscribers)

    def next_deadline(self, now: float) -> float | None:
        """Return the next ``last_poll`` that a poll ``now`` is too early for."""
        times = [
            each.last_poll
            for each in self.subscribers
            if each.last_poll is not None and each.last_poll > now + each.gap
        ]
        return min(times, default=None)

    def rest(self, now: float) -> float:
        """Return the seconds until calls are due, if news had the job visited before."""
        due, self.resume_at = self.resume_at, None
        return 0.0 if due is None else due - now

    def report(self, report: StatusReport, now: float) -> None:
        """Tell the subscribers of a status, if it differs from the one before."""
        if self.last is not None and self.last.status == report.status:
            return
        self.last, self.changed = attrs.evolve(report, raw={}), now
        for subscriber in list(self.subscribers):
            subscriber.on_status(report)

    def end(self, end: End) -> None:
        """Tell the subscribers that it is over."""
        subscribers, self.subscribers = list(self.subscribers), {}
        for subscriber in subscribers:
            subscriber.on_end(end)

    def end_billing(self, error: Exception) -> bool:
        """End it for those who want the result, if others only watch; return whether any do."""
        billing = [subscriber for subscriber in self.subscribers if subscriber.bills]
        if len(billing) == len(self.subscribers):
            return False
        for subscriber in billing:
            del self.subscribers[subscriber]
            subscriber.on_end(Stopped(error))
        return True
