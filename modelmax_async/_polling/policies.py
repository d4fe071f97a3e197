"""Delays: pure functions of attempt, elapsed time and a random number."""

from typing import Protocol

import attrs

from modelmax_async import _validators
from modelmax_async._models import Value
from modelmax_async._runtime.retry import grow


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
class PollPolicy(Value):
    """Exponential intervals between status calls, each times U(1 - jitter, 1 + jitter).

    Args:
        initial: seconds before the first poll of a fresh submit.
        factor: how much longer each interval is than the one before.
        maximum: seconds that no interval exceeds, jitter apart.
        jitter: from 0 (none) up to 1.
    """

    initial: float = attrs.field(default=1.0, validator=_validators.positive)
    factor: float = attrs.field(default=1.5, validator=_validators.at_least_one)
    maximum: float = attrs.field(default=10.0, validator=_validators.positive)
    jitter: float = attrs.field(default=0.25, validator=_validators.fraction)

    def delay(self, attempt: int, elapsed: float, random: float) -> float:  # noqa: ARG002 - the protocol's
        """Return the seconds to wait before the next status call."""
        interval = grow(self.initial, self.factor, attempt, self.maximum)
        return interval * (1 - self.jitter + 2 * self.jitter * random)


for _public in (DelayPolicy, PollPolicy):
    _public.__module__ = "modelmax_async"
