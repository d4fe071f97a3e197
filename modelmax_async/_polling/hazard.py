"""The rate at which jobs end at each age, estimated from what was learnt.

The estimate for each piece of age is the mean of a Gamma distribution: the ends divided by the
seconds, both with those of a prior added that is worth three jobs. Neighbouring pieces add what
they hold too, but never more than a bounded number of jobs, so that a piece which has seen
enough jobs of its own is hardly smoothed, and a rate that rises steeply is not held back.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Self

from modelmax_async._polling.durations import LENGTHS, STARTS, Durations

#: The prior: the jobs that it is worth, and the share, the median in seconds and the sigma of
#: its log-normal distributions. Most models take about a minute, and some a few seconds.
_JOBS = 3.0
_PRIOR = ((0.8, 60.0, 1.1), (0.2, 3.0, 1.0))
#: The width in pieces of the neighbourhood, and the most jobs that it can add.
_WIDTH, _NEIGHBOURS = 1.5, 30.0


def _survival(age: float) -> float:
    """Return the probability that a job outlives an age, by the prior."""
    if age <= 0:
        return 1.0
    return sum(
        share * math.erfc(math.log(age / median) / (sigma * math.sqrt(2))) / 2
        for share, median, sigma in _PRIOR
    )


def _prior() -> tuple[list[float], list[float]]:
    """Return the ends and the seconds of the jobs that the prior is worth."""
    ends, seconds = [], []
    for start, length in zip(STARTS, LENGTHS, strict=True):
        end = start + length
        first, middle, last = map(_survival, (start, (start + end) / 2, end))
        ends.append(_JOBS * (first - last))
        seconds.append(_JOBS * length * (first + 4 * middle + last) / 6)  # Simpson's rule
    return ends, seconds


def _weights() -> list[float]:
    """Return the weights of a piece's neighbours, which add up to 1, and 0 for its own."""
    reach = math.ceil(3 * _WIDTH)
    bell = [math.exp(-((j / _WIDTH) ** 2) / 2) for j in range(-reach, reach + 1)]
    bell[reach] = 0.0
    return [weight / sum(bell) for weight in bell]


_PRIOR_ENDS, _PRIOR_SECONDS = _prior()
_WEIGHTS = _weights()


def _smoothed(values: Sequence[float], trust: Sequence[float]) -> list[float]:
    """Return each value plus what its neighbours add, each as far as it is to be trusted."""
    reach = len(_WEIGHTS) // 2
    padded = [0.0] * reach + list(map(float.__mul__, values, trust)) + [0.0] * reach
    return [
        value + sum(map(float.__mul__, _WEIGHTS, padded[k : k + len(_WEIGHTS)]))
        for k, value in enumerate(values)
    ]


class Hazard(NamedTuple):
    """The rate at which jobs end, by age.

    ``rates`` has the ends per second in each piece of age, ``jobs`` the number of ends that
    they rest on, apart from the prior.
    """

    rates: tuple[float, ...]
    jobs: float

    @classmethod
    def of(cls, durations: Durations) -> Self:
        """Estimate the hazard from what was learnt."""
        if not any(durations.seconds) and not any(durations.ends):
            return cls._unlearnt()
        return cls._estimated(durations)

    @classmethod
    @cache
    def _unlearnt(cls) -> Self:
        """Return that of the prior alone, which every new client begins with."""
        return cls._estimated(Durations())

    @classmethod
    def _estimated(cls, durations: Durations) -> Self:
        ends = list(map(float.__add__, durations.ends, _PRIOR_ENDS))
        seconds = list(map(float.__add__, durations.seconds, _PRIOR_SECONDS))
        trust = [
            _NEIGHBOURS / (_NEIGHBOURS + spent / length)
            for spent, length in zip(seconds, LENGTHS, strict=True)
        ]
        rates = map(float.__truediv__, _smoothed(ends, trust), _smoothed(seconds, trust))
        return cls(tuple(rates), sum(durations.ends))
