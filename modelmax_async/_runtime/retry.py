"""Trying again after a failure that cost nothing: how often, and after how many seconds."""

from collections.abc import Callable

import attrs

from modelmax_async import _validators
from modelmax_async._errors import APIError
from modelmax_async._models import Value

#: A 404 within this many seconds may be a job that is not visible yet.
LASTING_NOT_FOUND = 10.0


@attrs.frozen
class RetryPolicy(Value):
    """Full-jitter backoff after a failure that cost nothing.

    Args:
        initial: seconds, the ceiling of the first delay.
        factor: how much higher each ceiling is than the one before.
        maximum: seconds that no delay exceeds, a server's Retry-After apart.
        give_up_after: seconds of uninterrupted failure of one job that a wait endures.
        attempts: how often a single call (submit, status, result) is made at most.
    """

    initial: float = attrs.field(default=0.5, validator=_validators.positive)
    factor: float = attrs.field(default=2.0, validator=_validators.at_least_one)
    maximum: float = attrs.field(default=30.0, validator=_validators.positive)
    give_up_after: float = attrs.field(default=300.0, validator=_validators.positive)
    attempts: int = attrs.field(default=4, validator=_validators.between(1, 100))

    def delay(self, attempt: int, random: float, retry_after: float | None = None) -> float:
        """Return the seconds to wait after failure number ``attempt`` (from 0)."""
        backoff = grow(self.initial, self.factor, attempt, self.maximum) * random
        return max(backoff, retry_after or 0.0)


RetryPolicy.__module__ = "modelmax_async"


@attrs.frozen
class Backoff:
    """A client's `RetryPolicy`, and the chance that its jitter draws on."""

    policy: RetryPolicy
    random: Callable[[], float]

    def delay(self, failures: int, error: Exception | None = None) -> float:
        """Return the seconds to wait before a call is made again.

        Args:
            failures: how often it had failed before this failure.
            error: the failure; the ``Retry-After`` of an answer is a minimum.
        """
        retry_after = error.retry_after if isinstance(error, APIError) else None
        return self.policy.delay(failures, self.random(), retry_after)


def grow(initial: float, factor: float, attempt: int, maximum: float) -> float:
    """``initial * factor ** attempt`` up to ``maximum``, with no overflow on the way."""
    try:
        return min(initial * float(factor) ** attempt, maximum)
    except OverflowError:
        return maximum


def is_final(status_code: int, failing_for: float) -> bool:
    """Whether a 4xx on a free call ends the waiting.

    Args:
        status_code: the HTTP status of the answer.
        failing_for: seconds since the job's calls began to fail.
    """
    if status_code == 404:  # noqa: PLR2004 - a job may not be visible yet
        return failing_for >= LASTING_NOT_FOUND
    return 400 <= status_code < 500 and status_code not in {408, 425, 429}  # noqa: PLR2004 - 4xx
