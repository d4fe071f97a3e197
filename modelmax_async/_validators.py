"""Checks of everything that goes into a URL, a request body or a policy, before any I/O."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from modelmax_async._arguments import forgotten, named

MAX_SEGMENT = 4096
#: The most characters of a submit's key.
MAX_KEY = 1024
_LARGEST = sys.float_info.max
#: The latest time in seconds since the epoch, in the year 5138: milliseconds are refused.
_LATEST = 1e11
_Validator = Callable[[Any, Any, Any], None]


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is an ``int`` or a ``float``, and not a ``bool``."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_integer(value: object, low: int, high: int) -> bool:
    """Whether a value is an ``int`` from ``low`` to ``high``, and not a ``bool``."""
    return is_number(value) and isinstance(value, int) and low <= value <= high


def check_segment(what: str, value: object) -> str:
    """Return ``value`` if it can be one path segment (API §2: ids are opaque).

    Args:
        what: the name of the value for the error message, such as ``"model"``.
        value: the value.

    Raises:
        ValueError: if it is not a string, is empty or too long, has ``.`` or ``..`` between
            slashes, or contains control characters or unpaired surrogates.
    """
    if not isinstance(value, str):
        raise ValueError(f"{what} must be a string, got {type(value).__name__}")  # noqa: TRY004 - the documented error for bad input
    if not value or not {".", ".."}.isdisjoint(value.split("/")):  # a gateway resolves dots
        raise ValueError(
            f"{what} must be non-empty and without '.' or '..' as a path segment, got {value!r}"
        )
    if len(value) > MAX_SEGMENT:
        raise ValueError(f"{what} must have at most {MAX_SEGMENT} characters, got {len(value)}")
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in value):
        raise ValueError(
            f"{what} must not contain control characters or unpaired surrogates, got {value!r}"
        )
    return value


def check_key(key: object) -> str:
    """Return the ``key`` of a submit if it can be recorded and shown.

    Raises:
        ValueError: if it is not a string, is empty or too long, or contains control characters
            or unpaired surrogates.
    """
    if not isinstance(key, str) or not key.strip():
        raise ValueError(f"key must be a non-empty string, got {key!r:.100}")
    if len(key) > MAX_KEY:
        raise ValueError(f"key must have at most {MAX_KEY} characters, got {len(key)}")
    if any(unicodedata.category(c) in {"Cc", "Cs"} for c in key):
        raise ValueError(
            f"key must not contain control characters or unpaired surrogates, got {key!r:.100}"
        )
    return key


def check_prompt(prompt: object) -> str:
    """Return the prompt if it is a non-empty string.

    Raises:
        ValueError: otherwise.
    """
    if not isinstance(prompt, str):
        several = isinstance(prompt, list | tuple) or hasattr(prompt, "prompt")
        advice = ": use generate_many for it" if several else forgotten(prompt)
        raise ValueError(f"prompt must be a non-empty string, got {named(prompt)}{advice}")  # noqa: TRY004 - the documented error for bad input
    if not prompt.strip():
        raise ValueError("prompt must be a non-empty string")
    return prompt


def check_timeout(timeout: float | None) -> float | None:
    """Return the ``timeout`` of a wait: seconds, or ``None`` for no limit.

    Raises:
        ValueError: if it is neither a number of at least 0 nor ``None``.
    """
    if timeout is None:
        return None
    if not is_number(timeout) or not timeout >= 0:
        raise ValueError(
            f"timeout must be a number of seconds from 0 or None, got {timeout!r:.100}"
        )
    return None if timeout == float("inf") else timeout


def segment(what: str) -> _Validator:
    """Return a validator that requires one path segment."""
    return lambda _instance, _field, value: (check_segment(what, value), None)[1]


def _must_be(what: str, holds: Callable[[Any], bool]) -> _Validator:
    def check(_instance: Any, field: Any, value: object) -> None:
        if not holds(value):
            raise ValueError(f"{field.name} must be {what}, got {value!r:.100}")

    return check


def one_of(*choices: str) -> _Validator:
    """Return a validator that requires one of the choices."""
    return _must_be(" or ".join(map(repr, choices)), lambda value: value in choices)


def between(low: int, high: int) -> _Validator:
    """Return a validator that requires an integer from ``low`` to ``high``."""
    return _must_be(
        f"an integer from {low} to {high}", lambda value: is_integer(value, low, high)
    )


def submit_key(_instance: Any, _field: Any, value: Any) -> None:
    """Require the key of a submit, or ``None``: see `check_key`."""
    if value is not None:
        check_key(value)


text = _must_be("a string", lambda value: isinstance(value, str))
recordable = _must_be(
    "a string without NUL characters or unpaired surrogates",
    lambda value: isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value),
)
flag = _must_be("True or False", lambda value: isinstance(value, bool))
mapping = _must_be("a mapping", lambda value: isinstance(value, Mapping))
positive = _must_be(
    "a number above 0", lambda value: is_number(value) and 0 < value <= _LARGEST
)
at_least_one = _must_be(
    "a number of at least 1", lambda value: is_number(value) and 1 <= value <= _LARGEST
)
timestamp = _must_be(
    "None or a number of seconds since the epoch",
    lambda value: value is None or (is_number(value) and 0 <= value <= _LATEST),
)
fraction = _must_be("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
