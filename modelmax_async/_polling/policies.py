"""Polling policies: pure functions of what is known of a job, and of a random number."""

from typing import Protocol

import attrs
from attrs.converters import optional

from modelmax_async import _validators
from modelmax_async._models import Status, Value, as_status
from modelmax_async._polling.forecast import Forecast
from modelmax_async._reprs import always_shown
from modelmax_async._runtime.retry import grow


@always_shown
@attrs.frozen(kw_only=True)
class WaitState(Value):
    """What a client knows of a job that it waits for, just after a poll or before the first.

    Attributes:
        model: the model of the job.
        attempts: the number of intervals before this one, 0 for the first.
        waited: seconds since the client began to wait for the job.
        age: seconds since the submit; ``None`` if the submit time is unknown.
        status: the last known status; ``None`` before the first poll.
        status_age: seconds since this status was first seen.
        forecast: what the client has learnt about the time that such jobs take.
    """

    model: str
    attempts: int
    waited: float
    age: float | None
    status: Status | str | None = attrs.field(converter=optional(as_status))
    status_age: float
    forecast: Forecast


class PollingPolicy(Protocol):
    """The protocol of polling policies: how long to wait before the next status call."""

    def delay(self, wait: WaitState, random: float) -> float:
        """Return the seconds to wait before the next status call.

        Args:
            wait: what is known of the job.
            random: a random number from 0 to 1, a new one for each call.
        """
        ...


@always_shown
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

    def delay(self, wait: WaitState, random: float) -> float:
        """Return the seconds to wait before the next status call.

        Args:
            wait: what is known of the job; only ``attempts`` is used.
            random: a random number from 0 to 1.
        """
        interval = grow(self.initial, self.factor, wait.attempts, self.maximum)
        return _jittered(interval, self.jitter, random)


@always_shown
@attrs.frozen
class AdaptivePolicy(Value):
    """Polls when it pays, from what the client has learnt about how long jobs take.

    The policy balances two costs: the number of status calls, and the lag, which is the time
    between the end of a job and the poll that notices it. One call is worth ``poll_cost``
    seconds of lag. After a poll that saw a job alive, the lag that the next poll must expect to
    find grows with every second: slowly while jobs of that age seldom end, and quickly while
    many do. The next poll is due when that expected lag reaches ``poll_cost``. An earlier poll
    would cost more than the lag that it saves; a later one would save more than it costs.

    If jobs end at a constant rate r, the interval is about ``sqrt(2 * poll_cost / r)``, which
    is the optimum. A job that has outlived most others of its model is polled more and more
    rarely, because the rate falls.

    The rate at each age is learnt from every poll, for each model. Before anything is learnt,
    it is that of jobs which mostly take about a minute and sometimes a few seconds.

    The rule follows J. B. Keller, "Optimum checking schedules for systems subject to random
    failure", Management Science 21 (3), 1974.

    Args:
        poll_cost: what one status call is worth, in seconds of lag. A larger value makes fewer
            calls.
        minimum: the shortest interval before jitter, in seconds.
        maximum: the longest interval before jitter, in seconds. It bounds the lag if a model
            suddenly becomes faster; a larger value makes fewer calls for jobs of many minutes.
        jitter: each interval is multiplied by U(1 - jitter, 1 + jitter); from 0 (none) to 1.

    Raises:
        ValueError: for a value outside its range, or a minimum above the maximum.
    """

    poll_cost: float = attrs.field(default=0.2, validator=_validators.positive)
    minimum: float = attrs.field(default=0.5, validator=_validators.positive)
    maximum: float = attrs.field(default=15.0, validator=_validators.positive)
    jitter: float = attrs.field(default=0.1, validator=_validators.fraction)

    def __attrs_post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ValueError(
                f"minimum must be at most maximum, got {self.minimum!r} and {self.maximum!r}"
            )

    def delay(self, wait: WaitState, random: float) -> float:
        """Return the seconds to wait before the next status call.

        Args:
            wait: what is known of the job; only ``forecast`` is used.
            random: a random number from 0 to 1.
        """
        interval = wait.forecast.until_lag(self.poll_cost, self.maximum)
        return _jittered(max(self.minimum, interval), self.jitter, random)


def _jittered(interval: float, jitter: float, random: float) -> float:
    return interval * (1 - jitter + 2 * jitter * random)


for _public in (AdaptivePolicy, PollingPolicy, PollPolicy, WaitState):
    _public.__module__ = "modelmax_async"
