"""Checks of the constructor's arguments: they name the mistake and say what to pass instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelmax_async._arguments import check_callback, forgotten, named
from modelmax_async._errors import ConfigurationError
from modelmax_async._polling.durations import Durations
from modelmax_async._polling.forecast import Forecast
from modelmax_async._polling.hazard import Hazard
from modelmax_async._polling.policies import (
    AdaptivePolicy,
    PollingPolicy,
    PollPolicy,
    WaitState,
)
from modelmax_async._runtime.retry import RetryPolicy
from modelmax_async._validators import is_integer, is_number
from modelmax_async.events import Hook
from modelmax_async.ledger import Ledger, MemoryLedger

_LEDGER = ("apply", "entries", "aclose")
_A_LEDGER = "a SQLiteLedger, a PostgresLedger or another ledger"
_MOST_ATTEMPTS = 100


def check_poll(poll: PollingPolicy | None) -> PollingPolicy:
    """Return the polling policy; one of the user's is called once, before a job depends on it.

    Raises:
        ConfigurationError: if it is none.
    """
    if poll is None:
        return AdaptivePolicy()
    given: object = poll
    if isinstance(given, RetryPolicy):
        raise _refused("poll", "a PollingPolicy", given, "pass it as retry=")
    if is_number(given) and 0 < given < float("inf"):
        advice = f"pass PollPolicy(initial={given}, maximum={given}) for a steady interval"
        raise _refused("poll", "a PollingPolicy", given, advice)
    if isinstance(given, type):
        raise _refused("poll", "a PollingPolicy", given, f"pass {given.__name__}()")
    if not callable(getattr(given, "delay", None)):
        advice = "pass PollPolicy(…), AdaptivePolicy(…), or an object with delay(wait, random)"
        raise _refused("poll", "a PollingPolicy", given, advice)
    _try_policy(poll)
    return poll


def _try_policy(poll: PollingPolicy) -> None:
    wait = WaitState(
        model="veo-3",
        attempts=0,
        waited=0.0,
        age=0.0,
        status=None,
        status_age=0.0,
        forecast=Forecast(0.0, *Hazard.of(Durations())),
    )
    try:
        delay: object = poll.delay(wait, 0.5)
        if forgotten(delay):
            raise TypeError("its delay() must be a plain function, got a coroutine function")
        usable = float(delay) >= 0  # type: ignore[arg-type]  # or a TypeError, as the next lines say
    except Exception as exc:
        raise ConfigurationError(f"poll does not work as a PollingPolicy: {exc}") from exc
    if not usable:
        raise ConfigurationError("poll.delay() must return seconds from 0, got less or NaN")


def check_retry(retry: RetryPolicy | None) -> RetryPolicy:
    """Return the `RetryPolicy`.

    Raises:
        ConfigurationError: if it is none.
    """
    if retry is None:
        return RetryPolicy()
    given: object = retry
    if isinstance(given, RetryPolicy):
        return given
    advice = ""
    if isinstance(given, type):
        advice = f"pass {given.__name__}()"
    elif is_integer(given, 1, _MOST_ATTEMPTS):
        advice = f"pass RetryPolicy(attempts={given})"
    elif isinstance(given, PollPolicy | AdaptivePolicy):
        advice = "pass it as poll="
    raise _refused("retry", "a RetryPolicy", given, advice)


def check_ledger(ledger: Ledger | None) -> Ledger:
    """Return the ledger, if it has the methods of one.

    Raises:
        ConfigurationError: names what is missing, and shows no text, which may have a password.
    """
    if ledger is None:
        return MemoryLedger()
    given: object = ledger
    if isinstance(given, type):
        raise _refused("ledger", _A_LEDGER, given, f"pass {given.__name__}(…)")
    if isinstance(given, str) and ("://" in given or "=" in given):  # it may have a password
        raise _refused("ledger", _A_LEDGER, given, "pass PostgresLedger(…)")
    if isinstance(given, str) or hasattr(given, "__fspath__"):
        raise _refused("ledger", _A_LEDGER, given, f"pass SQLiteLedger({str(given)!r:.200})")
    missing = [name for name in _LEDGER if not callable(getattr(given, name, None))]
    if missing == list(_LEDGER):
        advice = 'pass SQLiteLedger("runs.db"), PostgresLedger(…) or MemoryLedger()'
        raise _refused("ledger", _A_LEDGER, given, advice)
    if missing:
        methods = " and ".join(f"{name}()" for name in missing)
        raise ConfigurationError(
            f"ledger must have the methods of modelmax_async.ledger.Ledger, got "
            f"{named(given)} without {methods}"
        )
    return ledger


def check_hooks(hooks: Sequence[Hook]) -> tuple[Hook, ...]:
    """Return the hooks, if each of them is a plain callable.

    Raises:
        ConfigurationError: names the first that is not.
    """
    given: object = hooks
    if callable(given):
        name = getattr(given, "__name__", "my_hook")
        raise _refused("hooks", "a list of functions", given, f"pass hooks=[{name}]")
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise _refused("hooks", "a list of functions", given)
    found = tuple(hooks)
    for index, hook in enumerate(found):
        try:
            check_callback(f"hooks[{index}]", hook)
        except ValueError as exc:
            raise ConfigurationError(str(exc)) from None
    return found


def _refused(name: str, kind: str, value: object, advice: str = "") -> ConfigurationError:
    advice = (advice and f": {advice}") or forgotten(value)
    return ConfigurationError(f"{name} must be {kind}, got {named(value)}{advice}")
