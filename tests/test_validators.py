"""Checks of what goes into a URL, a body or a policy, before any I/O."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import AWKWARD_IDS, HOSTILE_IDS, value_or_error, wild_text

from modelmax_async import PollPolicy, RetryPolicy
from modelmax_async._validators import check_prompt, check_segment, check_timeout

NO_NUMBERS = ["1", None, True, math.nan, math.inf, -math.inf, 10**400, -1]


@pytest.mark.parametrize("value", AWKWARD_IDS)
def test_awkward_ids_pass_unchanged(value: str) -> None:
    assert value == check_segment("request id", value)


@pytest.mark.parametrize(("value", "word"), HOSTILE_IDS)
def test_hostile_ids_are_refused_by_name(value: object, word: str) -> None:
    with pytest.raises(ValueError, match=word) as caught:
        check_segment("request id", value)

    assert "request id" in str(caught.value)


@given(wild_text)
def test_error_about_any_text_can_be_printed(value: str) -> None:
    found = value_or_error(lambda: check_segment("model", value), ValueError)

    assert str(found).encode()


@pytest.mark.parametrize("prompt", ["", "   ", "\n", None, 5, b"reef"])
def test_empty_prompt_is_refused(prompt: object) -> None:
    with pytest.raises(ValueError, match="prompt must be a non-empty string"):
        check_prompt(prompt)


def test_prompt_passes_unchanged() -> None:
    assert "  reef\n" == check_prompt("  reef\n")


@pytest.mark.parametrize(
    ("given_timeout", "expected"), [(None, None), (0, 0), (1.5, 1.5), (math.inf, None)]
)
def test_timeout_is_seconds_or_no_limit(
    given_timeout: float | None, expected: float | None
) -> None:
    assert expected == check_timeout(given_timeout)


@pytest.mark.parametrize("timeout", [-1, math.nan, True, "5"])
def test_invalid_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="number of seconds"):
        check_timeout(timeout)


@pytest.mark.parametrize("value", [0, 0.0, *NO_NUMBERS])
@pytest.mark.parametrize("name", ["initial", "maximum", "give_up_after"])
def test_durations_are_finite_and_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a number above 0"):
        RetryPolicy(**{name: value})  # type: ignore[arg-type]  # one field at a time


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0.99])
def test_factor_never_shrinks_intervals(value: float) -> None:
    with pytest.raises(ValueError, match="factor must be a number of at least 1"):
        PollPolicy(factor=value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 1.01])
def test_jitter_is_a_fraction(value: float) -> None:
    with pytest.raises(ValueError, match="jitter must be a number from 0 to 1"):
        PollPolicy(jitter=value)


@pytest.mark.parametrize("value", [0, 101, 1.5, True, "4", None])
def test_attempts_are_bounded(value: int) -> None:
    with pytest.raises(ValueError, match="attempts must be an integer from 1 to 100"):
        RetryPolicy(attempts=value)


@given(st.floats(min_value=1e-300, max_value=1e300), st.floats(0, 1))
def test_ordinary_numbers_are_accepted_unchanged(seconds: float, jitter: float) -> None:
    policy = PollPolicy(initial=seconds, factor=1, maximum=seconds, jitter=jitter)

    assert (seconds, 1, seconds, jitter) == (
        policy.initial,
        policy.factor,
        policy.maximum,
        policy.jitter,
    )
