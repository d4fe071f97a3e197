"""`AdaptivePolicy`: bounded, monotone, and better than fixed intervals once it has learnt."""

from __future__ import annotations

import heapq
import math
import random as randoms
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import waiting

from modelmax_async import AdaptivePolicy, Forecast, Job, MemoryLedger, WaitState
from modelmax_async._polling.durations import PIECES
from modelmax_async._polling.learning import Learning
from modelmax_async._polling.observation import Observation
from modelmax_async._runtime.tasks import Life, Tasks

chances = st.floats(0, 1, exclude_max=True)
costs = st.floats(1e-3, 100)
forecasts = st.builds(
    Forecast,
    st.floats(0, 20_000),
    st.lists(st.floats(1e-9, 10), min_size=PIECES, max_size=PIECES).map(tuple),
    st.just(5.0),
)


policies = st.builds(
    AdaptivePolicy, costs, st.floats(0.1, 5), st.floats(5, 60), st.floats(0, 1)
)


@pytest.mark.untraced
@given(forecasts, policies, chances)
def test_interval_is_within_its_bounds(
    forecast: Forecast, policy: AdaptivePolicy, chance: float
) -> None:
    delay = policy.delay(waiting(forecast), chance)

    assert policy.minimum * (1 - policy.jitter) * (1 - 1e-9) <= delay
    assert delay <= policy.maximum * (1 + policy.jitter) * (1 + 1e-9)


@pytest.mark.untraced
@given(forecasts, costs, costs, chances)
def test_dearer_poll_is_later(forecast: Forecast, a: float, b: float, chance: float) -> None:
    one, other = (
        AdaptivePolicy(cost).delay(waiting(forecast), chance) for cost in sorted((a, b))
    )

    assert one <= other * (1 + 1e-9)


@given(forecasts, chances)
def test_jitter_is_around_the_interval(forecast: Forecast, chance: float) -> None:
    policy = AdaptivePolicy(jitter=0.1)
    middle = policy.delay(waiting(forecast), 0.5)

    assert middle * (0.9 + 0.2 * chance) == pytest.approx(
        policy.delay(waiting(forecast), chance)
    )
    assert middle == AdaptivePolicy(jitter=0).delay(waiting(forecast), chance)


def test_defaults_are_the_documented_ones() -> None:
    assert AdaptivePolicy(0.2, 0.5, 15.0, 0.1) == AdaptivePolicy()


def test_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(ValueError, match="minimum must be at most maximum, got 5 and 4"):
        AdaptivePolicy(minimum=5, maximum=4)


@pytest.mark.parametrize("name", ["poll_cost", "minimum", "maximum", "jitter"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, True, "1", None])
def test_unusable_value_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        AdaptivePolicy(**{name: value})


Delay = Callable[[WaitState, float], float]


class Figures:
    """Polls and seconds of lag of each job of a stream, in the order of the submits."""

    def __init__(self, durations: list[float], delay: Delay, rate: float) -> None:
        self.polls, self.lags = [0] * len(durations), [0.0] * len(durations)
        tasks = Tasks()
        tasks.life = Life.CLOSED  # so that nothing is written
        self._learning, self._delay = Learning(MemoryLedger(), "", tasks), delay
        self._chance = randoms.Random(7)
        self._run(durations, rate)

    def _run(self, durations: list[float], rate: float) -> None:
        job, start, due = Job("veo-3", "reef", submitted_at=0.0), 0.0, list[tuple[float, int]]()
        starts, seen = list[float](), dict[int, Observation]()
        for number in range(len(durations)):
            start += self._chance.expovariate(rate)
            starts.append(start)
            heapq.heappush(due, (start, number))
        while due:
            now, number = heapq.heappop(due)
            if number not in seen:
                seen[number] = Observation.start(job, now, 0.0)
                seen[number].from_the_start()
            else:
                self.polls[number] += 1
                if now - starts[number] >= durations[number]:
                    self.lags[number] = now - starts[number] - durations[number]
                    self._learning.ended("veo-3", seen[number], now)
                    continue
                self._learning.seen("veo-3", seen[number], now, "IN_PROGRESS")
            age = now - starts[number]
            forecast = self._learning.forecast("veo-3", seen[number].basis, age)
            wait = waiting(forecast, self.polls[number])
            heapq.heappush(due, (now + self._delay(wait, self._chance.random()), number))

    def cost(self, first: int, last: int | None = None) -> float:
        return 0.2 * fmean(self.polls[first:last]) + fmean(self.lags[first:last])


def drawn(median: float, sigma: float, jobs: int) -> list[float]:
    chance = randoms.Random(9)
    return [chance.lognormvariate(math.log(median), sigma) for _ in range(jobs)]


def every_five_seconds(wait: WaitState, chance: float) -> float:
    """Poll as the documented example does: at once, and then every 5 s."""
    return 5.0 if wait.attempts else 0.0


@pytest.mark.untraced  # it makes it several times slower
@pytest.mark.parametrize(
    ("median", "sigma", "fewer", "sooner"),
    [(75, 0.35, 0.8, 0.95), (15, 0.3, 1.1, 0.5), (400, 0.4, 0.5, 2.2)],
)
def test_it_polls_less_or_notices_sooner_than_the_documented_loop(
    median: float, sigma: float, fewer: float, sooner: float
) -> None:
    durations = drawn(median, sigma, 500)
    loop = Figures(durations, every_five_seconds, 50 / median)
    ours = Figures(durations, AdaptivePolicy().delay, 50 / median)

    assert fmean(ours.polls[100:]) < fewer * fmean(loop.polls[100:])
    assert fmean(ours.lags[100:]) < sooner * fmean(loop.lags[100:])
    assert ours.cost(0, 100) < loop.cost(0, 100), "from the very first jobs on"
    assert ours.cost(100) < 0.85 * loop.cost(100)


@pytest.mark.untraced  # it makes it several times slower
def test_model_that_becomes_slower_is_followed_within_sixty_jobs() -> None:
    before, after = drawn(60, 0.35, 300), drawn(120, 0.35, 700)
    changed = Figures(before + after[300:], AdaptivePolicy().delay, 0.8)
    known = Figures(after, AdaptivePolicy().delay, 0.8)

    assert changed.cost(360, 600) < 1.2 * known.cost(360, 600)


def test_fewer_polls_are_made_the_dearer_they_are() -> None:
    durations = drawn(75, 0.35, 200)
    polls = [
        fmean(Figures(durations, AdaptivePolicy(cost).delay, 0.7).polls)
        for cost in (0.05, 0.2, 1.0)
    ]

    assert polls[0] > 1.5 * polls[1] > 2 * polls[2]
