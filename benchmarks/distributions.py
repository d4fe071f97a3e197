"""How long jobs take: the distributions of the polling benchmark, and reproducible draws.

A draw is stratified: of ``n`` jobs, one takes a random time from each n-th part of the
distribution, in random order. Each job alone follows the distribution, and no run gets more
long jobs than another one by chance, so that few jobs give figures with little noise.
"""

from __future__ import annotations

import dataclasses
import math
import random
from statistics import NormalDist
from typing import Protocol

_NORMAL = NormalDist()


class Law(Protocol):
    """The distribution of a duration in seconds."""

    @property
    def mean(self) -> float:
        """The mean duration."""
        ...

    def cdf(self, seconds: float) -> float:
        """Return the share of jobs that take at most this long."""
        ...

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the jobs takes at most."""
        ...


@dataclasses.dataclass(frozen=True)
class LogNormal:
    """A log-normal distribution, with ``sigma`` of the natural logarithm."""

    median: float
    sigma: float

    @property
    def mean(self) -> float:
        """The mean duration."""
        return self.median * math.exp(self.sigma**2 / 2)

    def cdf(self, seconds: float) -> float:
        """Return the share of jobs that take at most this long."""
        if seconds <= 0:
            return 0.0
        return _NORMAL.cdf(math.log(seconds / self.median) / self.sigma)

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the jobs takes at most."""
        return self.median * math.exp(self.sigma * _NORMAL.inv_cdf(share))


@dataclasses.dataclass(frozen=True)
class Exponential:
    """``least`` seconds, plus an exponential distribution with the mean ``further``."""

    least: float
    further: float

    @property
    def mean(self) -> float:
        """The mean duration."""
        return self.least + self.further

    def cdf(self, seconds: float) -> float:
        """Return the share of jobs that take at most this long."""
        return 1 - math.exp(-max(0.0, seconds - self.least) / self.further)

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the jobs takes at most."""
        return self.least - self.further * math.log1p(-share)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The first law for a ``share`` of the jobs, and the second for the others."""

    first: Law
    second: Law
    share: float

    @property
    def mean(self) -> float:
        """The mean duration."""
        return self.share * self.first.mean + (1 - self.share) * self.second.mean

    def cdf(self, seconds: float) -> float:
        """Return the share of jobs that take at most this long."""
        others = (1 - self.share) * self.second.cdf(seconds)
        return self.share * self.first.cdf(seconds) + others

    def quantile(self, share: float) -> float:
        """Return the seconds that this share of the jobs takes at most, by bisection."""
        ends = self.first.quantile(share), self.second.quantile(share)
        low, high = min(ends), max(ends)
        while high - low > 1e-9 * high:
            middle = (low + high) / 2
            low, high = (middle, high) if self.cdf(middle) < share else (low, middle)
        return high


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The law of a run's jobs; with ``later``, the second half of them follows that law.

    ``speed`` is how many times faster than real time jobs may run, so that the duration of
    requests, which are not faster, stays within some two percent of the best possible cost.
    """

    name: str
    law: Law
    speed: float
    later: Law | None = None

    @property
    def before(self) -> Distribution:
        """The distribution without what comes later."""
        return dataclasses.replace(self, later=None)

    @property
    def mean(self) -> float:
        """The mean duration of all jobs."""
        return (self.law.mean + (self.later or self.law).mean) / 2

    def draw(self, jobs: int, seed: int) -> list[float]:
        """Return the duration of each job in seconds, the same in every run with this seed."""
        source = random.Random(f"{self.name} {seed}")  # noqa: S311 - durations, not secrets
        if self.later is None:
            return _stratified(self.law, jobs, source)
        before = _stratified(self.law, jobs // 2, source)
        return before + _stratified(self.later, jobs - jobs // 2, source)


def _stratified(law: Law, jobs: int, source: random.Random) -> list[float]:
    found = [law.quantile((part + source.random()) / jobs) for part in range(jobs)]
    source.shuffle(found)
    return found


DISTRIBUTIONS = {
    each.name: each
    for each in (
        Distribution("log-normal", LogNormal(75, 0.35), 8),
        Distribution("mixture", Mixture(LogNormal(60, 0.25), LogNormal(240, 0.3), 0.8), 9),
        Distribution("exponential", Exponential(20, 120), 13),
        Distribution("fast", LogNormal(15, 0.3), 3.5),
        Distribution("slow", LogNormal(400, 0.4), 18),
        Distribution("drift", LogNormal(60, 0.35), 8, LogNormal(120, 0.35)),
    )
}
