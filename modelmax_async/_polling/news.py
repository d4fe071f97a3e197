"""News of the ledger: another client may have ended a job that callers wait for here.

A job is then looked up at once. That brings its next poll no nearer: the ledger may only have
been out of touch for a while, with thousands of jobs waiting.
"""

from __future__ import annotations

import asyncio
from functools import partial

from modelmax_async._polling.job import PolledJob, Recall
from modelmax_async._polling.schedule import Schedule, Turn
from modelmax_async.ledger import Ledger, NotifiesChanges


class News:
    """Has jobs visited when their ledger tells of a change, if it is one that can."""

    def __init__(self, ledger: Ledger, schedule: Schedule[PolledJob]) -> None:
        self._ledger = ledger if isinstance(ledger, NotifiesChanges) else None
        self._schedule = schedule

    def await_for(self, polled: PolledJob) -> None:
        """Wait for news of a job."""
        if self._ledger is not None:
            polled.news = self._ledger.changed(polled.key)
            polled.news.add_done_callback(partial(self._arrived, polled))

    def forget(self, polled: PolledJob) -> None:
        """Wait for news of a job no longer."""
        news, polled.news = polled.news, None
        if news is not None:
            news.cancel()

    def _arrived(self, polled: PolledJob, news: asyncio.Future[None]) -> None:
        if news.cancelled() or polled.news is not news:
            return
        self.await_for(polled)  # first: a change after the look must not be missed
        polled.recall = Recall.UNASKED
        if polled.slot.turn is Turn.VISITED:
            polled.told = True
        elif polled.slot.turn is Turn.DUE and polled.resume_at is None:
            polled.resume_at = polled.slot.due
        self._schedule.put_now(polled)

    def visit_begins(self, polled: PolledJob) -> None:
        """Remember when calls are due, if news during the last visit caused this one."""
        if polled.told:
            polled.told, polled.resume_at = False, polled.slot.asked
