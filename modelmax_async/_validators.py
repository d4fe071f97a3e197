"""Validators: what may go into a URL or a request body, decided before any I/O."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

MAX_SEGMENT = 4096
_Validator = Callable[[Any, Any, Any], None]


def check_segment(what: str, value: object) -> str:
    """Return ``value`` when it can stand as one path segment (API §2: ids are opaque).

    Raises:
        ValueError: for a value that is not text, is empty or too long, or holds a ``.`` or
            ``..`` between slashes, control characters or half a surrogate pair.
    """
    if not isinstance(value, str):
        raise ValueError(f"a {what} is a str, not {type(value).__name__}")  # noqa: TRY004 - the documented error for bad input
    if not value or not {".", ".."}.isdisjoint(value.split("/")):  # a gateway resolves dots
        raise ValueError(f"{value!r} is not a {what}")
    if len(value) > MAX_SEGMENT:
        raise ValueError(f"a {what} has at most {MAX_SEGMENT} characters, not {len(value)}")
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in value):
        raise ValueError(f"the {what} {value!r} holds a control character")
    return value


def check_prompt(prompt: object) -> str:
    """Return the prompt when it is text with something in it.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("a prompt is a text that is not empty")
    return prompt


def segment(what: str) -> _Validator:
    """Return a validator: one path segment."""
    return lambda _instance, _field, value: (check_segment(what, value), None)[1]


def text(what: str) -> _Validator:
    """Return a validator: a ``str``, perhaps empty."""

    def check(_instance: Any, _field: Any, value: object) -> None:
        if not isinstance(value, str):
            raise ValueError(f"{what} is a str, not {type(value).__name__}")  # noqa: TRY004 - as above

    return check


def one_of(*choices: str) -> _Validator:
    """Return a validator: ``None`` or one of the choices."""

    def check(_instance: Any, field: Any, value: object) -> None:
        if value is not None and value not in choices:
            raise ValueError(f"{field.name} is one of {', '.join(choices)}; not {value!r}")

    return check


def between(low: int, high: int) -> _Validator:
    """Return a validator: ``None`` or a whole number from ``low`` to ``high``."""

    def check(_instance: Any, field: Any, value: object) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(
                f"{field.name} is a whole number from {low} to {high}; not {value!r}"
            )

    return check


def flag(_instance: Any, field: Any, value: object) -> None:
    """Validate: ``None``, ``True`` or ``False``."""
    if value is not None and not isinstance(value, bool):
        raise ValueError(f"{field.name} is True or False; not {value!r}")


def optional_text(_instance: Any, field: Any, value: object) -> None:
    """Validate: ``None`` or a ``str``."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{field.name} is a str, not {type(value).__name__}")


def mapping(_instance: Any, field: Any, value: object) -> None:
    """Validate: a mapping, such as a ``dict``."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{field.name} is a mapping, not {type(value).__name__}")  # noqa: TRY004 - as above


def positive(_instance: Any, field: Any, value: object) -> None:
    """Validate: a finite number above zero."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= sys.float_info.max:  # type: ignore[operator]  # number is a guard
        raise ValueError(f"{field.name} is a number above 0; not {value!r}")


def at_least_one(_instance: Any, field: Any, value: object) -> None:
    """Validate: a finite number from 1."""
    positive(_instance, field, value)
    if value < 1:  # type: ignore[operator]  # positive() has checked it
        raise ValueError(f"{field.name} is at least 1; not {value!r}")


def fraction(_instance: Any, field: Any, value: object) -> None:
    """Validate: a number from 0 to 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # type: ignore[operator]  # number is a guard
        raise ValueError(f"{field.name} is a number from 0 to 1; not {value!r}")


def check_timeout(timeout: float | None) -> float | None:
    """Return a wait's ``timeout``: seconds above or at 0, or ``None`` for no limit.

    Raises:
        ValueError: otherwise.
    """
    if timeout is None:
        return None
    number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if not number or not timeout >= 0:
        raise ValueError(f"timeout is a number of seconds, or None; not {timeout!r}")
    return None if timeout == float("inf") else timeout
