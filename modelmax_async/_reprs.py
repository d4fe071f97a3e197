"""What tools show that print the local variables of a traceback.

They ask for the ``repr`` of every object: of one whose constructor has failed, of a URL with a
password.
"""

from __future__ import annotations

import functools
from typing import Any, TypeVar

T = TypeVar("T")


class Unshown(str):
    """A text whose ``repr`` does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'…'"


def always_shown(kind: type[T]) -> type[T]:
    """Let the ``repr`` of a class name the class alone while an attribute is missing."""
    whole: Any = kind.__repr__

    @functools.wraps(whole)
    def shown(self: T) -> str:
        try:
            text: str = whole(self)
        except AttributeError:
            return f"<{type(self).__name__}: not initialized>"
        return text

    kind.__repr__ = shown  # type: ignore[method-assign, assignment]  # as decorators of classes do
    return kind
