"""Time limits of a request: of each phase, and of the whole."""

from __future__ import annotations

from typing import Any

import attrs
import httpx

from modelmax_async._errors import ConfigurationError
from modelmax_async._validators import is_number

Timeout = float | httpx.Timeout | None


@attrs.frozen
class Limits:
    """The time limits of every request of a client.

    Attributes:
        extensions: the request extension that holds the seconds of each phase.
        longest: the seconds of the longest phase, ``None`` if a phase has no limit.
    """

    extensions: dict[str, Any]
    longest: float | None

    def ceiling(self, times: int = 1) -> float | None:
        """Return the seconds for a whole request: a server may send it byte by byte."""
        return None if self.longest is None else self.longest * 1.25 * times + 0.5


def read_limits(timeout: Timeout) -> Limits:
    """Return the time limits of a ``timeout`` argument.

    Raises:
        ConfigurationError: if it is not seconds above 0, an `httpx.Timeout` or ``None``.
    """
    if not isinstance(timeout, httpx.Timeout):
        if timeout is not None and not (is_number(timeout) and timeout > 0):
            raise ConfigurationError(
                f"timeout must be seconds above 0, an httpx.Timeout or None, got {timeout!r}"
            )
        timeout = httpx.Timeout(timeout)
    phases = timeout.as_dict()
    known = [seconds for seconds in phases.values() if seconds is not None]
    return Limits({"timeout": phases}, max(known) if len(known) == len(phases) else None)
