"""What one wait observes of its job: when it was last alive, and the age that counts.

The age of a job whose submit time is known counts from the submit. That of an id from elsewhere
counts from its first poll. Once a job was seen in the queue and then seen to leave it, its age
counts from that moment: the time in the queue says little about the time that a video takes.
What is observed of each is learnt apart.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import attrs

from modelmax_async._models import Job, Status

#: An end that was noticed later than this many seconds after the job was last seen alive, and
#: at more than twice its age then, says too little about when it was.
_BLURRED = 60.0


class Basis(enum.StrEnum):
    """The moment that an age counts from, and which jobs are counted."""

    SUBMITTED = "submitted"
    """The submit, of jobs that were not seen in the queue."""
    SUBMITTED_IN_QUEUE = "submitted_in_queue"
    """The submit, of jobs that were last seen in the queue."""
    SUBMITTED_VIA_QUEUE = "submitted_via_queue"
    """The submit, of jobs that were once seen in the queue."""
    FOUND = "found"
    """The first poll of an id from elsewhere, of jobs that were not seen in the queue."""
    FOUND_IN_QUEUE = "found_in_queue"
    """The first poll, of jobs that were last seen in the queue."""
    FOUND_VIA_QUEUE = "found_via_queue"
    """The first poll, of jobs that were once seen in the queue."""
    STARTED = "started"
    """The first poll that no longer saw the job in the queue."""


_QUEUED = {
    Basis.SUBMITTED: (Basis.SUBMITTED_IN_QUEUE, Basis.SUBMITTED_VIA_QUEUE),
    Basis.FOUND: (Basis.FOUND_IN_QUEUE, Basis.FOUND_VIA_QUEUE),
}
_SUBMITTED = (Basis.SUBMITTED, Basis.SUBMITTED_VIA_QUEUE)
_FOUND = (Basis.FOUND, Basis.FOUND_VIA_QUEUE)
_IN_QUEUE = frozenset({Basis.SUBMITTED_IN_QUEUE, Basis.FOUND_IN_QUEUE})
#: Called with the basis and the two ages in seconds between which a fact was observed.
Note = Callable[[Basis, float, float], object]


@attrs.define(eq=False, weakref_slot=False)
class Observation:
    """What is known of a job's age. All times are by the event loop's clock.

    Attributes:
        basis: the moment that the age counts from, for the next poll.
        since: that moment.
        origin: the submit, or the first poll.
        via: the basis of the whole life since the origin, of a job that was seen in the queue.
        alive: when the job was last known to be alive; ``None`` while it is not observed,
            because it may have ended before anyone looked, or because it has ended.
    """

    basis: Basis
    since: float
    origin: float
    via: Basis | None = None
    alive: float | None = None

    @classmethod
    def start(cls, job: Job, now: float, wall: float) -> Observation:
        """Begin to observe a job, ``now`` and at ``wall`` seconds since the epoch."""
        if job.submitted_at is None or wall < job.submitted_at:  # by a clock that was ahead
            return cls(Basis.FOUND, now, now)
        submitted = now - (wall - job.submitted_at)
        return cls(Basis.SUBMITTED, submitted, submitted)

    def since_submit(self, now: float) -> float | None:
        """Return the seconds since the submit, ``None`` if its time is unknown."""
        known = (self.via or self.basis) in _SUBMITTED
        return now - self.origin if known else None

    def whole_life(self, now: float) -> tuple[Basis, float]:
        """Return the basis and the age that tell how long the job still takes."""
        if self.via is not None and self.basis in _IN_QUEUE:
            return self.via, now - self.origin
        return self.basis, now - self.since

    def from_the_origin(self, now: float) -> tuple[tuple[Basis, ...], float]:
        """Return the bases of all jobs of one origin, and the age since that of this job."""
        submitted = self.since_submit(now) is not None
        return _SUBMITTED if submitted else _FOUND, now - self.origin

    def from_the_start(self) -> None:
        """Observe the job from its submit on: no poll can have missed its end."""
        self.alive = self.since

    def seen(self, now: float, status: str, note: Note) -> None:
        """Note that a poll saw the job alive, with this status."""
        if self.alive is not None:
            self._note(self.alive, now, note)
        elif self.basis is Basis.FOUND:
            self.since = self.origin = now
        self.alive = now
        if status == Status.IN_QUEUE:
            self.basis, self.via = _QUEUED.get(self.basis, (self.basis, self.via))
        elif self.basis in _IN_QUEUE:
            self.basis, self.since = Basis.STARTED, now

    def ended(self, now: float, note: Note) -> None:
        """Note that a poll saw that the job has ended."""
        if self.alive is not None and now - self.alive <= max(
            _BLURRED, self.alive - self.origin
        ):
            self._note(self.alive, now, note)
        self.alive = None

    def _note(self, start: float, end: float, note: Note) -> None:
        note(self.basis, start - self.since, end - self.since)
        if self.via is not None:
            note(self.via, start - self.origin, end - self.origin)
