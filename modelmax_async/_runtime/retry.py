"""Retries of unbilled failures: how often, and after how many seconds."""

from collections.abc import Callable
from http import HTTPStatus

import attrs

from modelmax_async import _validators
from modelmax_async._errors import APIError
from modelmax_async._models import Value
from modelmax_async._reprs import always_shown

#: For this many seconds a 404 may mean that the job is not visible yet.
LASTING_NOT_FOUND = 10.0
_PASSING = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
}


@always_shown
@attrs.frozen
class RetryPolicy(Value):
    """Exponential backoff with full jitter after an unbilled failure.

    Args:
        initial: the upper bound of the first delay, in seconds.
        factor: the ratio of each upper bound to the one before, at least 1.
        maximum: the longest delay in seconds; a server's ``Retry-After`` may be longer.
        give_up_after: seconds of uninterrupted failure of one job that end a wait.
        attempts: the most attempts of a single call (submit, status, result), from 1 to 100.

    Raises:
        ValueError: for a value outside its range.
    """

    initial: float = attrs.field(default=0.5, validator=_validators.positive)
    factor: float = attrs.field(default=2.0, validator=_validators.at_least_one)
    maximum: float = attrs.field(default=30.0, validator=_validators.positive)
    give_up_after: float = attrs.field(default=300.0, validator=_validators.positive)
    attempts: int = attrs.field(default=4, validator=_validators.between(1, 100))

    def delay(self, attempt: int, random: float, retry_after: float | None = None) -> float:
        """Return the seconds to wait before the next attempt.

        Args:
            attempt: the number of failures before this one, 0 for the first.
            random: a random number from 0 to 1.
            retry_after: the server's ``Retry-After`` in seconds, a minimum.
        """
        backoff = grow(self.initial, self.factor, attempt, self.maximum) * random
        return max(backoff, retry_after or 0.0)


RetryPolicy.__module__ = "modelmax_async"


@attrs.frozen
class Backoff:
    """The `RetryPolicy` of a client with its source of random numbers."""

    policy: RetryPolicy
    random: Callable[[], float]

    def delay(self, failures: int, error: Exception | None = None) -> float:
        """Return the seconds to wait after ``error``, which ``failures`` others preceded."""
        retry_after = error.retry_after if isinstance(error, APIError) else None
        return self.policy.delay(failures, self.random(), retry_after)


def grow(initial: float, factor: float, attempt: int, maximum: float) -> float:
    """Return ``initial * factor ** attempt``, at most ``maximum``, without an overflow."""
    try:
        return min(initial * float(factor) ** attempt, maximum)
    except OverflowError:
        return maximum


def is_final(status_code: int, failing_for: float) -> bool:
    """Whether a 4xx on a free call that has failed for so many seconds ends the wait."""
    if status_code == HTTPStatus.NOT_FOUND:
        return failing_for >= LASTING_NOT_FOUND
    client_error = HTTPStatus.BAD_REQUEST <= status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    return client_error and status_code not in _PASSING
