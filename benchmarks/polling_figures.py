"""The figures of a measured run, and the optimum's for the same jobs."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks import optimum
from benchmarks.distributions import DISTRIBUTIONS
from benchmarks.polling_clients import POLL_COST
from benchmarks.polling_jobs import Record, Run


@dataclasses.dataclass(frozen=True)
class Figures:
    """Means over jobs: their polls, and seconds of lag."""

    jobs: int
    polls: float
    lag: float
    p95_lag: float
    fetch: float = 0.0

    @classmethod
    def of(cls, records: Sequence[Record]) -> Figures:
        """Return the figures of some jobs."""
        lags = [record.lag for record in records]
        return cls(
            jobs=len(records),
            polls=statistics.fmean(record.polls for record in records),
            lag=statistics.fmean(lags),
            p95_lag=statistics.quantiles(lags, n=20)[18],
            fetch=statistics.fmean(record.fetch for record in records),
        )

    @property
    def cost(self) -> float:
        """Polls and lag together, in seconds of lag."""
        return POLL_COST * self.polls + self.lag


@dataclasses.dataclass(frozen=True)
class Measured:
    """A run, with a record for each job in the order of the submits.

    ``late`` is how many seconds too late a timer was on average, on the contender's clock.
    """

    run: Run
    records: list[Record]
    real_seconds: float
    cpu_seconds: float
    late: float

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Measured:
        """Read the output of `benchmarks.polling_run`."""
        records = [Record(*each) for each in found["records"]]
        others = {name: found[name] for name in ("real_seconds", "cpu_seconds", "late")}
        return cls(Run(**found["run"]), records, **others)

    @property
    def figures(self) -> Figures:
        """The figures over all jobs."""
        return Figures.of(self.records)

    @property
    def name(self) -> str:
        """The contender, and what it had learnt before."""
        if self.run.contender != "ours":
            return self.run.contender
        if self.run.match is not None:
            return "ours, as many polls"
        if self.run.maximum is not None:
            return "ours, warm, 60 s"
        return "ours, warm" if self.run.learnt else "ours, cold"

    def best(self, longest: float = math.inf) -> list[Record]:
        """Return the same jobs under the optimum with intervals up to ``longest`` seconds."""
        distribution = DISTRIBUTIONS[self.run.distribution]
        half = len(self.records) if distribution.later is None else len(self.records) // 2
        return [
            *_best(distribution.name, longest, self.records[:half]),
            *_best(distribution.name, longest, self.records[half:], later=True),
        ]


@functools.cache
def best_schedule(
    name: str, poll_cost: float, longest: float = math.inf, *, later: bool = False
) -> list[float]:
    """Return the optimum of a distribution, or of the one that it drifts to."""
    distribution = DISTRIBUTIONS[name]
    law = distribution.later if later else distribution.law
    assert law is not None
    return optimum.schedule(law, poll_cost, longest)


def _best(
    name: str, longest: float, records: list[Record], *, later: bool = False
) -> list[Record]:
    if not records:
        return []
    durations = [record.duration for record in records]
    polls_at = best_schedule(name, POLL_COST, longest, later=later)
    found = optimum.measure(polls_at, durations)
    return [
        Record(duration, polls, lag, 0.0)
        for duration, (polls, lag) in zip(durations, found, strict=True)
    ]


def ratio(
    measured: Sequence[Measured], part: slice = slice(None), longest: float = math.inf
) -> float:
    """Return the cost of a part of the jobs of each run, divided by the optimum's.

    The optimum has intervals up to ``longest`` seconds.
    """
    jobs = [record for each in measured for record in each.records[part]]
    best = [record for each in measured for record in each.best(longest)[part]]
    return Figures.of(jobs).cost / Figures.of(best).cost
