"""Hazards and forecasts: what is expected of a job, given its age and what was learnt."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelmax_async import Forecast
from modelmax_async._polling.durations import PIECES, Durations, piece_at
from modelmax_async._polling.hazard import Hazard

rates = st.lists(st.floats(1e-9, 10), min_size=PIECES, max_size=PIECES).map(tuple)
ages = st.floats(0, 20_000)
forecasts = st.builds(Forecast, ages, rates, st.just(5.0))
lags = st.floats(1e-3, 100)
longest = st.floats(0.1, 100)


def constant(rate: float, age: float = 0.0) -> Forecast:
    return Forecast(age, (rate,) * PIECES, 100.0)


def lag_within(forecast: Forecast, seconds: float, steps: int = 20_000) -> float:
    """Return the expected lag of a poll in so many seconds, integrated step by step."""
    step, lag, alive = seconds / steps, 0.0, 1.0
    for number in range(steps):
        age = forecast.age + (number + 0.5) * step
        alive *= math.exp(-step * forecast.rates[piece_at(age)])
        lag += (1 - alive) * step
    return lag


def logarithmic(median: float, sigma: float, jobs: int) -> Durations:
    """Return what is learnt from so many jobs that are polled each second."""
    chance, durations = random.Random(4), Durations()
    for _ in range(jobs):
        end = math.ceil(chance.lognormvariate(math.log(median), sigma))
        durations.alive(0.0, end - 1)
        durations.ended(end - 1, end)
    return durations


@given(forecasts, lags, longest)
def test_time_until_a_lag_is_within_its_bounds(
    forecast: Forecast, lag: float, most: float
) -> None:
    assert 0 < forecast.until_lag(lag, most) <= most


@given(forecasts, lags, lags, longest)
def test_larger_lag_takes_longer(forecast: Forecast, a: float, b: float, most: float) -> None:
    one, other = (forecast.until_lag(lag, most) for lag in sorted((a, b)))

    assert one <= other * (1 + 1e-9)


@pytest.mark.parametrize(("rate", "lag"), [(0.01, 0.2), (0.001, 0.5), (0.1, 0.05)])
def test_constant_rate_gives_the_square_root_of_keller(rate: float, lag: float) -> None:
    found = constant(rate).until_lag(lag, 1000)

    assert math.sqrt(2 * lag / rate) == pytest.approx(found, rel=0.05)


@pytest.mark.untraced
@pytest.mark.parametrize("age", [0.0, 20.0, 45.0, 80.0, 300.0])
@pytest.mark.parametrize("lag", [0.05, 0.2, 0.5])
def test_poll_at_that_time_finds_that_lag(age: float, lag: float) -> None:
    forecast = Forecast(age, *Hazard.of(logarithmic(60, 0.3, 200)))
    seconds = forecast.until_lag(lag, 1e6)

    assert lag == pytest.approx(lag_within(forecast, seconds), rel=0.06)


def test_rate_of_zero_waits_as_long_as_allowed() -> None:
    assert 15.0 == constant(0.0).until_lag(0.2, 15.0)


@given(st.floats(0, 1e300), st.floats(1e-3, 1e300), st.floats(0.1, 1e300))
def test_extreme_numbers_stay_within_bounds(age: float, lag: float, most: float) -> None:
    for rate in (0.0, 1e-300, 1.0, 1e300):
        assert 0 <= constant(rate, age).until_lag(lag, most) <= most


def test_longest_beyond_the_last_piece_is_returned() -> None:
    assert {9000.1 + n for n in range(500)} == {
        constant(1e-9).until_lag(1e6, 9000.1 + n) for n in range(500)
    }


def test_job_that_never_ends_has_no_finite_quantile() -> None:
    assert math.inf == constant(0.0).quantile(0.5)


@pytest.mark.parametrize(("fraction", "expected"), [(0.5, 69.31), (0.9, 230.26), (0.0, 0.0)])
def test_quantiles_of_a_constant_rate(fraction: float, expected: float) -> None:
    assert expected == pytest.approx(constant(0.01, 33.0).quantile(fraction), abs=0.01)


@given(forecasts, st.floats(0, 0.99), st.floats(0, 0.99))
def test_quantiles_grow_with_the_fraction(forecast: Forecast, a: float, b: float) -> None:
    one, other = (forecast.quantile(fraction) for fraction in sorted((a, b)))

    assert 0 <= one <= other < math.inf


def test_learnt_quantiles_are_those_of_the_jobs() -> None:
    forecast = Forecast(0.0, *Hazard.of(logarithmic(75, 0.35, 300)))

    assert 75 == pytest.approx(forecast.quantile(0.5), rel=0.1)
    assert 117 == pytest.approx(forecast.quantile(0.9), rel=0.15)


def test_before_anything_is_learnt_a_job_takes_about_a_minute() -> None:
    unknown = Hazard.of(Durations())

    assert 0 == unknown.jobs
    assert 20 < Forecast(0.0, *unknown).quantile(0.5) < 60
    assert all(rate > 0 for rate in unknown.rates)


def test_a_few_jobs_outweigh_the_prior() -> None:
    forecast = Forecast(0.0, *Hazard.of(logarithmic(400, 0.2, 12)))

    assert 250 < forecast.quantile(0.5) < 480


def test_rates_rise_while_many_end_and_fall_past_the_bulk() -> None:
    """Past the bulk of the jobs the intervals grow: backoff, where it belongs."""
    hazard = Hazard.of(logarithmic(60, 0.25, 300))
    waits = [Forecast(age, *hazard).until_lag(0.2, 100) for age in (0, 40, 60, 200, 1000, 5000)]

    assert waits[0] > waits[1] > waits[2]
    assert waits[2] < waits[3] < waits[4] < waits[5]
