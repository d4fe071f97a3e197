"""Delays: pure, bounded, and never a cause of failure."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import NOW
from support import waiting

from modelmax_async import Forecast, PollPolicy, RetryPolicy, WaitState
from modelmax_async._api.messages import LONGEST_RETRY_AFTER, parse_retry_after
from modelmax_async._polling.durations import Durations
from modelmax_async._polling.hazard import Hazard
from modelmax_async._runtime.retry import LASTING_NOT_FOUND, is_final

seconds = st.floats(min_value=5e-324, max_value=1.7e308)
factors = st.floats(min_value=1, max_value=1e300) | st.integers(1, 10**6)
randoms = st.floats(min_value=0, max_value=1, exclude_max=True)
ROUNDING = 1e-12
policies = st.builds(PollPolicy, seconds, factors, seconds, st.floats(0, 1))
attempts = st.integers(0, 200) | st.integers(0, 10**6) | st.just(10**400)


def after(attempts: int) -> WaitState:
    """The state of a wait of which nothing but the number of intervals matters."""
    return waiting(Forecast(0.0, *Hazard.of(Durations())), attempts)


@given(policies, attempts, randoms)
@example(PollPolicy(5e-324, 2, 1.7e308, 1.0), 10**6, 0.999)
def test_interval_stays_within_its_bounds(
    policy: PollPolicy, attempt: int, random: float
) -> None:
    maximum, jitter, wait = policy.maximum, policy.jitter, after(attempt)
    low, high = policy.delay(wait, 0.0), policy.delay(wait, 1.0)
    delay = policy.delay(wait, random)

    assert 0 <= low <= delay <= high
    assert high <= maximum * (1 + jitter) * (1 + ROUNDING)
    assert low >= 0.999 * min(policy.initial, maximum) * (1 - jitter)


def test_default_intervals_are_the_documented_ones() -> None:
    policy = PollPolicy()
    middles = [policy.delay(after(attempt), 0.5) for attempt in range(8)]

    assert [1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, 10.0, 10.0] == middles
    assert 0.75 == policy.delay(after(0), 0.0)
    assert 12.5 == policy.delay(after(10**6), 1.0)


def test_without_jitter_intervals_are_exact() -> None:
    policy = PollPolicy(jitter=0)

    assert {3.375} == {policy.delay(after(3), r / 10) for r in range(10)}


def test_first_interval_is_never_longer_than_the_maximum() -> None:
    assert 2.0 == PollPolicy(initial=60, maximum=2, jitter=0).delay(after(0), 0.5)


@given(seconds, factors, seconds, attempts, randoms)
def test_backoff_has_full_jitter_under_its_ceiling(
    initial: float, factor: float, maximum: float, attempt: int, random: float
) -> None:
    policy = RetryPolicy(initial, factor, maximum)

    assert 0 == policy.delay(attempt, 0.0)
    assert 0 <= policy.delay(attempt, random) <= policy.delay(attempt, 1.0) <= maximum


def test_default_backoff_doubles_from_half_a_second() -> None:
    policy = RetryPolicy()

    assert [0.5, 1, 2, 4, 8, 16, 30, 30] == [policy.delay(a, 1.0) for a in range(8)]
    assert 0.25 == policy.delay(0, 0.5)
    assert (300, 4) == (policy.give_up_after, policy.attempts)


@pytest.mark.parametrize(
    ("retry_after", "expected"), [(None, 0.25), (0.0, 0.25), (0.1, 0.25), (120.0, 120.0)]
)
def test_retry_after_is_a_minimum(retry_after: float | None, expected: float) -> None:
    assert expected == RetryPolicy().delay(0, 0.5, retry_after)


@pytest.mark.parametrize("status", range(400, 500))
def test_lasting_4xx_ends_a_wait(status: int) -> None:
    passing = status in {404, 408, 425, 429}

    assert passing is not is_final(status, 0.0)
    assert (status in {408, 425, 429}) is not is_final(status, math.inf)


@pytest.mark.parametrize("status", [200, 204, 302, 399, 500, 502, 503, 504, 599])
def test_no_other_status_ends_a_wait(status: int) -> None:
    assert not is_final(status, math.inf)


def test_404_ends_a_wait_after_ten_seconds() -> None:
    assert not is_final(404, LASTING_NOT_FOUND - 0.001)
    assert is_final(404, LASTING_NOT_FOUND)


def _date(offset: float) -> str:
    return format_datetime(datetime.fromtimestamp(NOW + offset, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        (" ", None),
        ("soon", None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("3600", 3600.0),
        ("3601", 3600.0),
        ("9" * 5000, LONGEST_RETRY_AFTER),
        ("00000000000000000005", 5.0),
        ("1.5", None),
        ("-5", None),
        ("+5", None),
        ("٣", None),
        ("²", None),
        (_date(30), 30.0),
        (_date(0), 0.0),
        (_date(-30), 0.0),
        (_date(86400), LONGEST_RETRY_AFTER),
        (_date(30).removesuffix(" GMT"), 30.0),
        (_date(30).replace("GMT", "-0000"), 30.0),
        (_date(30).replace("GMT", "+0100"), 0.0),
        (_date(30).replace("GMT", "-0001"), 90.0),
        ("Wed, 32 Jun 2025 15:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, expected: float | None) -> None:
    assert expected == parse_retry_after(value, NOW)


def test_date_without_a_zone_is_gmt_in_any_local_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "America/New_York")
        time.tzset()
        found = parse_retry_after(_date(30).removesuffix(" GMT"), NOW)
    time.tzset()

    assert 30.0 == found


@pytest.mark.parametrize(
    ("date", "expected"),
    [(_date(-7200), 3600.0), (_date(10), 20.0), (_date(60), 0.0), ("soon", 30.0), (None, 30.0)],
)
def test_date_is_by_the_servers_clock(date: str | None, expected: float) -> None:
    assert expected == parse_retry_after(_date(30), NOW, date)


@given(
    st.text(max_size=40)
    | st.text("0123456789 :,+-GMTJanFebWed", max_size=40)
    | st.from_regex(
        r"\A(Mon, )?\d{1,3} (Jan|Feb|Dec) \d{1,6} \d\d?:\d\d?(:\d\d?)?( [+-]\d{2,9}| GMT)?\Z"
    ),
    st.floats(0, 4e9),
)
def test_any_retry_after_is_bounded_or_none(value: str, now: float) -> None:
    found = parse_retry_after(value, now)

    assert found is None or 0 <= found <= LONGEST_RETRY_AFTER
