"""What one run of the polling benchmark is, and what it records of each job."""

from __future__ import annotations

import dataclasses
import time
from typing import Literal

from benchmarks._local import control


@dataclasses.dataclass(frozen=True)
class Run:
    """What is measured.

    Attributes:
        contender: "documented loop", "plain backoff", "ours", or another SDK.
        distribution: a name of `DISTRIBUTIONS`.
        scenario: how the jobs come.
        jobs: how many of them.
        speed: seconds on the contender's clock for each real second.
        seed: draws the durations, and the moments of the submits.
        maximum: the longest interval of our client, its default if this is ``None``.
        dial: the contender's dial, see `polling_clients`; its default if this is ``None``.
        learnt: jobs that another client has waited for before, with the same ledger.
        match: polls per job for which a poll cost is searched first.
    """

    contender: str
    distribution: str
    scenario: Literal["stream", "batch"]
    jobs: int
    speed: float
    seed: int = 1
    dial: float | None = None
    maximum: float | None = None
    learnt: int = 0
    match: float | None = None


@dataclasses.dataclass(frozen=True)
class Record:
    """A job that a contender waited for.

    Attributes:
        duration: seconds from its submit to its end.
        polls: how often the server was asked for its status.
        lag: seconds from its end to the received result.
        fetch: the part of the lag after the server said that the job was done.
    """

    duration: float
    polls: int
    lag: float
    fetch: float


class Arrivals:
    """The ids of a run's jobs, and when their results were received, in real time."""

    def __init__(self, url: str) -> None:
        self.start = float(control(url, "/_reset")["start"])
        self.ids: dict[int, str] = {}
        self._at: dict[str, float] = {}

    def note(self, request_id: str) -> None:
        """Note that the result was received."""
        self._at[request_id] = time.monotonic()

    def records(self, url: str, durations: list[float], speed: float) -> list[Record]:
        """Return a record for each job, in the order of their numbers."""
        server = control(url, "/_jobs")
        found = []
        for number, duration in enumerate(durations):
            request_id = self.ids[number]
            at, (polls, seen) = self._at[request_id], server[request_id]
            end = self.start + int(request_id.partition("-")[0]) / 1000
            found.append(Record(duration, polls, (at - end) * speed, (at - seen) * speed))
        return found
