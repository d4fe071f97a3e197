"""What the polls of one job have shown of the time that it spent in each status."""

from __future__ import annotations

import attrs

from modelmax_async._models import Status, StatusReport


@attrs.define(eq=False, weakref_slot=False)
class Progress:
    """How often a job was polled, and when, by the loop's clock, a poll saw it in a status.

    Attributes:
        polls: how many polls succeeded.
        alive: the last one that saw it unfinished.
        running: the first one that saw it IN_PROGRESS.
        ended: the first one that saw that it had ended.
    """

    polls: int = 0
    alive: float | None = None
    running: float | None = None
    ended: float | None = None

    def polled(self, report: StatusReport, now: float) -> None:
        """Note a poll that succeeded."""
        self.polls += 1
        if not report.terminal:
            self.alive, self.ended = now, None
            if self.running is None and report.status == Status.IN_PROGRESS:
                self.running = now
        elif self.ended is None:
            self.ended = now


def between(start: float | None, end: float | None) -> float | None:
    """Return the seconds between two times, ``None`` if one is unknown."""
    return None if start is None or end is None else end - start
