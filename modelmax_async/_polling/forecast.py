"""How long a job still takes, as far as was learnt: the lag and the end to expect."""

import math

import attrs

from modelmax_async._models import Value
from modelmax_async._polling.durations import ENDS, piece_at
from modelmax_async._reprs import always_shown

#: A rate that counts as none.
_NONE = 1e-12


@always_shown
@attrs.frozen
class Expected(Value):
    """How long a job still takes, as learnt from other jobs: see `AsyncQueueClient.expected`.

    Half of such jobs end within ``median`` seconds from now, 90 % within ``p90`` seconds.
    """

    median: float
    p90: float


@always_shown
@attrs.frozen
class Forecast(Value):
    """How long a job still takes, as far as was learnt from jobs like it.

    Attributes:
        age: the age of the job in seconds, as jobs like it are counted.
        rates: the rate at which jobs end in each piece of age, in ends per second.
        jobs: the number of ended jobs that it rests on; an older job counts for less.
    """

    age: float
    rates: tuple[float, ...] = attrs.field(repr=False)
    jobs: float

    def until_lag(self, lag: float, longest: float) -> float:
        """Return the seconds until a poll would find an expected lag of ``lag`` seconds.

        The lag is the time since the end of the job, and 0 while the job is alive. Its
        expectation grows by the probability that the job has ended, in each second.

        Args:
            lag: the expected lag in seconds.
            longest: the most seconds to return.
        """
        k, waited, grown, alive = piece_at(self.age), 0.0, 0.0, 1.0
        while True:
            rate, here = self.rates[k], min(ENDS[k] - self.age, longest) - waited
            left = math.exp(-rate * here)
            more = here - alive * (1.0 - left) / rate if rate > _NONE else (1 - alive) * here
            if grown + more >= lag:
                return waited + min(here, _solve(alive, rate, lag - grown))
            if ENDS[k] - self.age >= longest:
                return longest
            grown, alive, waited, k = grown + more, alive * left, waited + here, k + 1

    def quantile(self, fraction: float) -> float:
        """Return the seconds within which the job has ended with this probability.

        Args:
            fraction: the probability, from 0 to below 1.
        """
        needed, waited, k = -math.log1p(-fraction), 0.0, piece_at(self.age)
        while True:
            here = ENDS[k] - self.age - waited
            if here == math.inf and self.rates[k] <= 0:
                return math.inf
            if self.rates[k] * here >= needed:
                return waited + (needed / self.rates[k] if needed else 0.0)
            needed, waited, k = needed - self.rates[k] * here, waited + here, k + 1


def _solve(alive: float, rate: float, lag: float) -> float:
    """Return the seconds x with (1 - alive) x + alive rate x² / 2 = lag, for short times."""
    linear, square = 1.0 - alive, alive * rate
    root = math.sqrt(linear * linear + 2 * square * lag)
    return 2 * lag / (linear + root) if linear + root > 0 else math.inf


for _public in (Expected, Forecast):
    _public.__module__ = "modelmax_async"
