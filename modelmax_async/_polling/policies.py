"""Poll policies: pure functions of the attempt, the elapsed time and a random number."""

from typing import Protocol

import attrs

from modelmax_async import _validators
from modelmax_async._models import Value
from modelmax_async._runtime.retry import grow


class DelayPolicy(Protocol):
    """The protocol of poll policies: how long to wait before the next status call."""

    def delay(self, attempt: int, elapsed: float, random: float) -> float:
        """Return the seconds to wait before the next status call.

        Args:
            attempt: the number of intervals before this one, 0 for the first.
            elapsed: seconds since the wait began.
            random: a random number from 0 to 1, a new one for each call.
        """
        ...


@attrs.frozen
class PollPolicy(Value):
    """Exponential intervals between status calls, each times U(1 - jitter, 1 + jitter).

    Args:
        initial: seconds before the first status call of a job that was just submitted.
        factor: the ratio of each interval to the one before, at least 1.
        maximum: the longest interval before jitter, in seconds.
        jitter: from 0 (none) to 1.

    Raises:
        ValueError: for a value outside its range.
    """

    initial: float = attrs.field(default=1.0, validator=_validators.positive)
    factor: float = attrs.field(default=1.5, validator=_validators.at_least_one)
    maximum: float = attrs.field(default=10.0, validator=_validators.positive)
    jitter: float = attrs.field(default=0.25, validator=_validators.fraction)

    def delay(self, attempt: int, elapsed: float, random: float) -> float:  # noqa: ARG002 - required by the protocol
        """Return the seconds to wait before the next status call.

        Args:
            attempt: the number of intervals before this one, 0 for the first.
            elapsed: is not used.
            random: a random number from 0 to 1.
        """
        interval = grow(self.initial, self.factor, attempt, self.maximum)
        return interval * (1 - self.jitter + 2 * self.jitter * random)


for _public in (DelayPolicy, PollPolicy):
    _public.__module__ = "modelmax_async"
