"""How long a request may take: each phase of it, and the whole."""

from __future__ import annotations

from typing import Any

import attrs
import httpx

from modelmax_async._errors import ConfigurationError

Timeout = float | httpx.Timeout | None


@attrs.frozen
class Limits:
    """The limits of every request of a client.

    Attributes:
        extensions: what tells the HTTP library the seconds of each phase.
        longest: the seconds of the longest phase, ``None`` where one has no limit.
    """

    extensions: dict[str, Any]
    longest: float | None

    def ceiling(self, times: int = 1) -> float | None:
        """Seconds for a whole request: for servers that drip, and transports without limits."""
        return None if self.longest is None else self.longest * 1.25 * times + 0.5


def read_limits(timeout: Timeout) -> Limits:
    """Return the limits that a user's ``timeout`` stands for.

    Raises:
        ConfigurationError: for what is neither seconds above 0 nor `httpx.Timeout`.
    """
    if not isinstance(timeout, httpx.Timeout):
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if timeout is not None and not (number and timeout > 0):
            raise ConfigurationError(
                f"timeout is seconds above 0, or httpx.Timeout; not {timeout!r}"
            )
        timeout = httpx.Timeout(timeout)
    phases = timeout.as_dict()
    known = [seconds for seconds in phases.values() if seconds is not None]
    return Limits({"timeout": phases}, max(known) if len(known) == len(phases) else None)
