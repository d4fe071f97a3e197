"""What is known of one job while somebody waits for it, and who does."""

from __future__ import annotations

from typing import Protocol

import attrs

from modelmax_async._billing.decisions import Decision
from modelmax_async._http import Prepared
from modelmax_async._models import Job, Result, StatusReport
from modelmax_async.ledger import Key


class Subscriber(Protocol):
    """Somebody who waits for a job. ``bills``: whether it wants the result, or only watches."""

    bills: bool

    def on_status(self, report: StatusReport) -> None:
        """The status is another than before."""

    def on_end(self, result: Result | None, error: Exception | None) -> None:
        """It is over: one of both for those who want the result, neither for watchers."""


@attrs.define(eq=False)
class Wait:
    """One job that somebody waits for."""

    job: Job
    key: Key
    started: float
    subscribers: dict[Subscriber, None] = attrs.field(factory=dict)
    ticket: int = 0
    busy: bool = False
    notified: bool = False
    recalled: bool = False
    intervals: int = 0
    last: StatusReport | None = None
    prepared: Prepared | None = None
    failing_since: float | None = None
    failures: int = 0
    completed: bool = False
    completed_since: float | None = None
    acknowledged: bool = False
    decision: Decision | None = None
    held: int = 0

    @property
    def bills(self) -> bool:
        """Whether anybody here wants the result."""
        return any(subscriber.bills for subscriber in self.subscribers)

    def end_billing(self, error: Exception) -> bool:
        """Tell those who want the result that there is none, if others only watch."""
        billing = [subscriber for subscriber in self.subscribers if subscriber.bills]
        if len(billing) == len(self.subscribers):
            return False
        for subscriber in billing:
            del self.subscribers[subscriber]
            subscriber.on_end(None, error)
        return True
