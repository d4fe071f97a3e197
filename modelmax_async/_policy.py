"""Delays: pure functions of attempt, elapsed time and a random number."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Protocol

import attrs

from modelmax_async import _checks

#: A 404 within this many seconds may be a job that is not visible yet.
LASTING_NOT_FOUND = 10.0
#: COMPLETED on status but not on result for longer than this is an error.
INCONSISTENT_AFTER = 60.0
#: No pause that a server asks for is longer than this many seconds.
LONGEST_RETRY_AFTER = 3600.0


class DelayPolicy(Protocol):
    """How long to wait before the next status call. Bring your own."""

    def delay(self, attempt: int, elapsed: float, random: float) -> float:
        """Return seconds to wait.

        Args:
            attempt: how many intervals came before this one; 0 for the first.
            elapsed: seconds since the waiting began.
            random: from 0 up to 1, drawn anew for each call.
        """
        ...


@attrs.frozen
class PollPolicy:
    """Exponential intervals between status calls, each times U(1 - jitter, 1 + jitter).

    Args:
        initial: seconds before the first poll of a fresh submit.
        factor: how much longer each interval is than the one before.
        maximum: seconds that no interval exceeds, jitter apart.
        jitter: from 0 (none) up to 1.
    """

    initial: float = attrs.field(default=1.0, validator=_checks.positive)
    factor: float = attrs.field(default=1.5, validator=_checks.at_least_one)
    maximum: float = attrs.field(default=10.0, validator=_checks.positive)
    jitter: float = attrs.field(default=0.25, validator=_checks.fraction)

    def delay(self, attempt: int, elapsed: float, random: float) -> float:  # noqa: ARG002 - the protocol's
        """Return the seconds to wait before the next status call."""
        interval = _grow(self.initial, self.factor, attempt, self.maximum)
        return interval * (1 - self.jitter + 2 * self.jitter * random)


@attrs.frozen
class RetryPolicy:
    """Full-jitter backoff after a failure that cost nothing.

    Args:
        initial: seconds, the ceiling of the first delay.
        factor: how much higher each ceiling is than the one before.
        maximum: seconds that no delay exceeds, a server's Retry-After apart.
        give_up_after: seconds of uninterrupted failure of one job that a wait endures.
        attempts: how often a single call (submit, status, result) is made at most.
    """

    initial: float = attrs.field(default=0.5, validator=_checks.positive)
    factor: float = attrs.field(default=2.0, validator=_checks.at_least_one)
    maximum: float = attrs.field(default=30.0, validator=_checks.positive)
    give_up_after: float = attrs.field(default=300.0, validator=_checks.positive)
    attempts: int = attrs.field(default=4, validator=_checks.between(1, 100))

    def delay(self, attempt: int, random: float, retry_after: float | None = None) -> float:
        """Return the seconds to wait after failure number ``attempt`` (from 0)."""
        backoff = _grow(self.initial, self.factor, attempt, self.maximum) * random
        return max(backoff, retry_after or 0.0)


def _grow(initial: float, factor: float, attempt: int, maximum: float) -> float:
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


def parse_retry_after(value: str | None, now: float, date: str | None = None) -> float | None:
    """Return the seconds of a ``Retry-After`` header: a number, or an HTTP date.

    Args:
        value: the header, ``None`` when there was none.
        now: seconds since the epoch, by the clock of this machine.
        date: the answer's ``Date`` header: a date is meant by the server's clock, not by ours.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER)
    then = _parse_date(text)
    if then is None:
        return None
    sent = _parse_date(date or "")
    return min(max(0.0, then - (now if sent is None else sent)), LONGEST_RETRY_AFTER)


def _parse_date(text: str) -> float | None:
    """Return an HTTP date as seconds since the epoch; ``None`` where it is none."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if found.tzinfo is None:  # an HTTP date is in GMT, whether it says so or not
        found = found.replace(tzinfo=UTC)
    return found.timestamp()
