"""Arguments of the wrong kind: what a message calls them, and checks of callbacks and paths."""

from __future__ import annotations

import functools
import inspect
import os
import re
from typing import Any


def named(value: object) -> str:
    """Return what a message calls a value of the wrong kind; a text may be secret."""
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.iscoroutine(value):
        return f"the coroutine of {value.__qualname__}()"
    if inspect.isroutine(value):
        return "a function"
    return type(value).__name__


def forgotten(value: object) -> str:
    """Return the advice for what must be awaited first, empty for any other value.

    A coroutine is closed, so that no warning that it was never awaited follows.
    """
    if inspect.iscoroutine(value):
        value.close()
    return ": await it first" if inspect.isawaitable(value) else ""


def check_callback(what: str, callback: object) -> None:
    """Refuse a callback that cannot be called, or whose calls would have to be awaited.

    Args:
        what: the name of the argument for the error message.
        callback: the callback.

    Raises:
        ValueError: says what to pass instead.
    """
    if not callable(callback):
        raise ValueError(  # noqa: TRY004 - the documented error for bad input
            f"{what} must be a function, got {named(callback)}{forgotten(callback)}"
        )
    if _is_async(callback):
        name = getattr(_bare(callback), "__qualname__", type(_bare(callback)).__name__)
        raise ValueError(
            f"{what} must be a plain function, got a coroutine function ({name}), which would "
            "never be awaited: start a task in a plain function instead"
        )


def check_optional_callback(what: str, callback: object) -> None:
    """Refuse a callback as `check_callback` does, unless there is none.

    Raises:
        ValueError: says what to pass instead.
    """
    if callback is not None:
        check_callback(what, callback)


def _is_async(callback: Any) -> bool:
    callback = _bare(callback)
    call = callback if inspect.isroutine(callback) else type(callback).__call__
    return any(
        inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
        for each in (callback, call)
    )


def _bare(callback: Any) -> Any:
    while isinstance(callback, functools.partial):
        callback = callback.func
    return callback


def check_flag(what: str, value: object) -> None:
    """Refuse anything but True or False where another value could cost money or the key.

    Raises:
        ValueError: names the argument.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{what} must be True or False, got {value!r:.100}")  # noqa: TRY004 - the documented error for bad input


def check_path(what: str, path: Any) -> str:
    """Return the text of a path.

    Raises:
        ValueError: if it is not a path, or if it begins with ``~``, which is not expanded.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise ValueError(  # noqa: TRY004 - the documented error for bad input
            f"{what} must be a path (a string or a pathlib.Path), got {named(path)}"
            f"{forgotten(path)}"
        )
    if re.match(r"~(?:[/\\]|$)", text):
        raise ValueError(
            f"{what} must be a path without '~', which is not expanded, got {text!r:.200}: "
            f"pass Path({text!r:.200}).expanduser()"
        )
    return text
