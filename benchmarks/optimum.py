"""The best schedule of polls for a known distribution, by dynamic programming.

It is the limit for every policy: the times of polls after the submit that minimise the expected
``poll_cost * polls + lag``, where each poll counts, and the lag is the time from the job's end
to the poll that finds it. A job that is alive at one poll has the same future whatever the
polls before, so the best continuation depends on the time of that poll only. The times lie
on a grid that is fine against the intervals between polls.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import numpy as np

from benchmarks.distributions import Law

#: Steps of the grid, which ends where one job in a million is still running.
_STEPS = 8_192
_BEYOND = 1e-6


def schedule(law: Law, poll_cost: float, longest: float = math.inf) -> list[float]:
    """Return the seconds from the submit to each poll; no interval is over ``longest``.

    Let W(t) be the expected cost after a poll at ``t``, times the share of jobs alive then.
    W(t) is the least over ``s > t`` of ``poll_cost * alive(t) + lag(t, s) + W(s)``: the poll
    at ``s`` is paid for every job alive at ``t``, and ``lag(t, s)`` is the integral of
    ``ended(u) - ended(t)`` from ``t`` to ``s``.
    """
    times = np.linspace(0.0, law.quantile(1 - _BEYOND), _STEPS + 1)
    ended = np.array([law.cdf(each) for each in times])
    strips = (ended[1:] + ended[:-1]) / 2 * np.diff(times)
    integral = np.concatenate(([0.0], np.cumsum(strips)))
    later = np.zeros(_STEPS + 1)
    following = np.zeros(_STEPS + 1, dtype=np.int64)
    reach = int(min(longest, times[-1]) / times[1])
    for t in range(_STEPS - 1, -1, -1):
        near = slice(t + 1, t + 1 + reach)
        lag = integral[near] - integral[t] - ended[t] * (times[near] - times[t])
        cost = lag + later[near]
        best = int(np.argmin(cost))
        later[t] = poll_cost * (1 - ended[t]) + cost[best]
        following[t] = t + 1 + best
    polls, at = [], 0
    while at < _STEPS:
        at = int(following[at])
        polls.append(float(times[at]))
    return polls


def measure(polls: Sequence[float], durations: Sequence[float]) -> list[tuple[int, float]]:
    """Return the number of polls and the lag of each job under a schedule.

    After the last time of the schedule, the polls go on with its last interval.
    """
    times = list(polls)
    interval = times[-1] - times[-2] if len(times) > 1 else times[-1]
    while times[-1] < max(durations):
        times.append(times[-1] + interval)
    found = []
    for duration in durations:
        poll = bisect.bisect_left(times, duration)
        found.append((poll + 1, times[poll] - duration))
    return found
